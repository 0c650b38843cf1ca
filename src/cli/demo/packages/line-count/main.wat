;; Counts the bytes, words and lines of standard input, as `wc` does, and prints "lines words bytes\n".
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 2)
  ;; 0: iovec (pointer, length); 8: bytes moved; 64..: digits; 1024..: input buffer of 64 KiB
  (global $lines (mut i64) (i64.const 0))
  (global $words (mut i64) (i64.const 0))
  (global $bytes (mut i64) (i64.const 0))
  (global $inside (mut i32) (i32.const 0))

  (func $is_space (param $byte i32) (result i32)
    (i32.or (i32.eq (local.get $byte) (i32.const 32))
            (i32.le_u (i32.sub (local.get $byte) (i32.const 9)) (i32.const 4))))

  (func $count (param $length i32)
    (local $at i32) (local $byte i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $length)))
        (local.set $byte (i32.load8_u offset=1024 (local.get $at)))
        (if (i32.eq (local.get $byte) (i32.const 10))
          (then (global.set $lines (i64.add (global.get $lines) (i64.const 1)))))
        (if (call $is_space (local.get $byte))
          (then (global.set $inside (i32.const 0)))
          (else
            (if (i32.eqz (global.get $inside))
              (then (global.set $words (i64.add (global.get $words) (i64.const 1)))))
            (global.set $inside (i32.const 1))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (global.set $bytes (i64.add (global.get $bytes) (i64.extend_i32_u (local.get $length)))))

  (func $write (param $pointer i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $pointer))
    (i32.store (i32.const 4) (local.get $length))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 1)))))

  ;; Prints a number and one byte after it.
  (func $print (param $number i64) (param $after i32)
    (local $at i32)
    (local.set $at (i32.const 96))
    (i32.store8 (local.get $at) (local.get $after))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
      (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $number) (i64.const 0))))
    (call $write (local.get $at) (i32.sub (i32.const 97) (local.get $at))))

  (func (export "_start")
    (block $end
      (loop $more
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
          (then (call $proc_exit (i32.const 1))))
        (br_if $end (i32.eqz (i32.load (i32.const 8))))
        (call $count (i32.load (i32.const 8)))
        (br $more)))
    (call $print (global.get $lines) (i32.const 32))
    (call $print (global.get $words) (i32.const 32))
    (call $print (global.get $bytes) (i32.const 10))))
