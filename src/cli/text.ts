// Values as people read them: sizes, rates, times, and text from other nodes made harmless for a terminal.

const sizeUnits = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** 0 B, 1023 B, 1.5 KiB, 117.7 MiB. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${Math.round(bytes)} B`
  let value = bytes
  let unit = -1
  // 1023.96 KiB would be written 1024.0.
  while (value >= 1023.95 && unit < sizeUnits.length - 1) {
    value /= 1024
    unit++
  }
  return `${value.toFixed(value < 99.95 ? 1 : 0)} ${sizeUnits[unit]}`
}

export const formatRate = (bytes: number, milliseconds: number): string =>
  milliseconds <= 0 ? '' : `${formatBytes((bytes / milliseconds) * 1000)}/s`

/** 12 ms, 1.5 s, 2 min 5 s, 3 h 1 min, 2 d 4 h. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`
  const seconds = milliseconds / 1000
  if (seconds < 59.95) return `${seconds.toFixed(1).replace('.0', '')} s`
  const whole = Math.round(seconds)
  const [days, hours, minutes] = [
    Math.floor(whole / 86_400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
  ]
  if (days > 0) return `${days} d ${hours} h`
  if (hours > 0) return `${hours} h ${minutes} min`
  return `${minutes} min ${whole % 60} s`
}

/** 2026-11-22 05:10:33, local time. */
export function formatTime(iso: string): string {
  const date = new Date(iso)
  if (Number.isNaN(date.getTime())) return iso
  const two = (value: number) => String(value).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

/** The start and the end of an id: enough to tell it from others. */
export const shortId = (id: string): string => (id.length <= 20 ? id : `${id.slice(0, 10)}…${id.slice(-8)}`)

/** Names and descriptions come from other nodes: no escape sequence or control character of theirs acts here. */
export const harmless = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach the terminal
  text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd')

/** On one line. */
export const harmlessLine = (text: string): string => harmless(text.replace(/\s+/g, ' '))

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`
