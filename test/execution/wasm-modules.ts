// WebAssembly payloads of the tests, as text: small command modules against WASI preview 1.

const imports = `
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $path_open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 4)
  (func $write (param $fd i32) (param $from i32) (param $length i32) (result i32)
    (i32.store (i32.const 0) (local.get $from))
    (i32.store (i32.const 4) (local.get $length))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func $length (param $text i32) (result i32) (local $end i32)
    (local.set $end (local.get $text))
    (block $done (loop $more
      (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
      (local.set $end (i32.add (local.get $end) (i32.const 1)))
      (br $more)))
    (i32.sub (local.get $end) (local.get $text)))
  ;; the address of argument n, read into 4096…
  (func $argument (param $n i32) (result i32)
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (drop (call $args_get (i32.const 1024) (i32.const 4096)))
    (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $n) (i32.const 4)))))`

/** Writes its arguments and environment, NUL-separated, then its input; exits with 7. */
export const echoModule = `(module ${imports}
  (func (export "_start") (local $read i32)
    (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
    (drop (call $args_get (i32.const 1024) (i32.const 4096)))
    (drop (call $write (i32.const 1) (i32.const 4096) (i32.load (i32.const 20))))
    (drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
    (drop (call $environ_get (i32.const 1024) (i32.const 8192)))
    (drop (call $write (i32.const 1) (i32.const 8192) (i32.load (i32.const 20))))
    (loop $more
      (i32.store (i32.const 0) (i32.const 65536))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $read (i32.load (i32.const 8)))
      (if (local.get $read) (then
        (drop (call $write (i32.const 1) (i32.const 65536) (local.get $read)))
        (br $more))))
    (call $proc_exit (i32.const 7))))`

export const trapModule = `(module ${imports} (func (export "_start") unreachable))`
export const foreignModule = `(module (import "node" "require" (func $require)) (memory (export "memory") 1)
  (func (export "_start") (call $require)))`
export const spinModule = `(module ${imports} (func (export "_start") (loop $more (br $more))))`
export const floodModule = `(module ${imports} (func (export "_start")
  (loop $more (drop (call $write (i32.const 1) (i32.const 65536) (i32.const 65536))) (br $more))))`

/** Grows its memory and writes to every page of it, for ever. */
export const memoryModule = `(module ${imports} (func (export "_start") (local $page i32)
  (local.set $page (memory.size))
  (loop $more
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then (call $proc_exit (i32.const 9))))
    (loop $fill
      (i32.store (i32.mul (local.get $page) (i32.const 65536)) (i32.const 1))
      (memory.fill (i32.mul (local.get $page) (i32.const 65536)) (i32.const 7) (i32.const 65536))
      (local.set $page (i32.add (local.get $page) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $page) (memory.size))))
    (br $more))))`

/** Opens argument 1 relative to every preopened directory; exits with 0 where one let it (argument 2: `w` creates). */
export const openModule = `(module ${imports} (func (export "_start") (local $fd i32) (local $path i32) (local $flags i32)
  (local $rights i64)
  (local.set $path (call $argument (i32.const 1)))
  (local.set $rights (i64.const 2))
  (if (i32.eq (i32.load8_u (call $argument (i32.const 2))) (i32.const 119)) (then
    (local.set $flags (i32.const 1))
    (local.set $rights (i64.const 64))))
  (local.set $fd (i32.const 3))
  (loop $next
    (if (i32.eqz (call $path_open (local.get $fd) (i32.const 1) (local.get $path) (call $length (local.get $path))
      (local.get $flags) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 32)))
      (then (call $proc_exit (i32.const 0))))
    (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $fd) (i32.const 8))))
  (call $proc_exit (i32.const 1))))`

/** Makes a link link to argument 1 in the scratch directory (the third preopened) and opens through it. */
export const linkModule = `(module ${imports} (data (i32.const 64) "link")
  (func (export "_start") (local $path i32) (local $fd i32)
  (local.set $path (call $argument (i32.const 1)))
  (local.set $fd (i32.const 3))
  (loop $next
    (drop (call $path_symlink (local.get $path) (call $length (local.get $path)) (local.get $fd) (i32.const 64) (i32.const 4)))
    (if (i32.eqz (call $path_open (local.get $fd) (i32.const 1) (i32.const 64) (i32.const 4)
      (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
      (then (call $proc_exit (i32.const 0))))
    (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $fd) (i32.const 8))))
  (call $proc_exit (i32.const 1))))`

/** Writes into new files of the scratch directory until it may not; each write is 64 KiB. */
export const fillModule = `(module ${imports} (data (i32.const 64) "/scratch/a")
  (func (export "_start") (local $fd i32)
  (local.set $fd (i32.const 3))
  (loop $next
    (if (i32.eqz (call $path_open (local.get $fd) (i32.const 1) (i32.const 73) (i32.const 1)
      (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
      (then (loop $more
        (drop (call $write (i32.load (i32.const 32)) (i32.const 65536) (i32.const 65536)))
        (br $more))))
    (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $fd) (i32.const 8))))
  (call $proc_exit (i32.const 1))))`
