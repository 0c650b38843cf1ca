// The payload of the self-test, run inside the sandbox: tries what a payload must not be able to do and prints, as one
// JSON array, what it could do after all. An empty array is the pass. `memory` and `processes` are bombs instead.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'

const { mode, hiddenPaths, port, environment } = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const found = []
const unless = (holds, problem) => {
  if (!holds) found.push(problem)
}
const works = action => {
  try {
    action()
    return true
  } catch {
    return false
  }
}

const checkEnvironment = () => {
  const foreign = Object.keys(process.env).filter(name => !environment.includes(name))
  unless(foreign.length === 0, `environment variables of the daemon are visible: ${foreign}`)
  // Whatever process is pid 1 may keep the environment that bwrap was started with; the shell itself sets these.
  const first = readFileSync('/proc/1/environ', 'utf8').split('\0').filter(Boolean)
  const names = first.map(entry => entry.split('=')[0])
  unless(
    names.every(name => ['PWD', 'OLDPWD', 'SHLVL', '_'].includes(name)),
    `pid 1 shows ${names}`,
  )
}

const checkFiles = () => {
  for (const path of hiddenPaths) unless(!existsSync(path), `${path} of the host is visible`)
  for (const path of ['/package/x', '/x', '/usr/bin/x', '/dev/x', '/runtime/x', '/etc/x'])
    unless(!works(() => writeFileSync(path, '')), `${path} can be written`)
  unless(!works(() => writeFileSync('/proc/sys/kernel/core_pattern', 'x')), 'core_pattern can be written')
  unless(
    works(() => writeFileSync('/scratch/x', '')),
    'the scratch directory cannot be written',
  )
  const open = readdirSync('/proc/self/fd').flatMap(fd => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)]
    } catch {
      return []
    }
  })
  const foreign = open.filter(
    target => target.startsWith('/') && !/^\/(dev\/|package|runtime|proc)/.test(target),
  )
  unless(foreign.length === 0, `open descriptors of the host: ${foreign}`)
}

const checkPrivileges = () => {
  const status = readFileSync('/proc/self/status', 'utf8')
  const field = name => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1]
  unless(field('NoNewPrivs') === '1', 'new privileges can be had')
  unless(field('Seccomp') === '2', 'there is no system-call filter')
  unless(
    field('Uid')
      ?.split('\t')
      .every(uid => uid === '65534'),
    `the uid is ${field('Uid')}`,
  )
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
    unless(/^0+$/.test(field(set) ?? ''), `${set} is ${field(set)}`)
  unless(spawnSync('/usr/bin/unshare', ['-U', '/bin/true']).status !== 0, 'a user namespace can be made')
  const others = readdirSync('/proc').filter(name => /^\d+$/.test(name)).length
  unless(others <= 4, `${others} processes are visible`)
}

const checkNetwork = async () => {
  const interfaces = readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .filter(line => line.includes(':'))
  unless(
    interfaces.every(line => line.trim().startsWith('lo:')),
    'a network interface is visible',
  )
  const { promise, resolve } = Promise.withResolvers()
  const socket = connect({ port, host: '127.0.0.1' }, () => resolve(true)).on('error', () => resolve(false))
  unless(!(await promise), 'a port of the host can be reached')
  socket.destroy()
}

if (mode === 'memory') {
  const kept = []
  for (let chunk = 1; chunk <= 512; chunk++) kept.push(Buffer.alloc(4 * 1024 * 1024, chunk))
  console.log(`${kept.length * 4} MiB were had`)
} else if (mode === 'processes') {
  spawnSync('/bin/sh', ['-c', 'i=0; while [ $i -lt 48 ]; do sleep 5 & i=$((i+1)); done; wait'])
} else {
  checkEnvironment()
  checkFiles()
  checkPrivileges()
  await checkNetwork()
  console.log(JSON.stringify(found))
}
