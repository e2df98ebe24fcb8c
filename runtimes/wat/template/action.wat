;; A whole action in WebAssembly text: the core ABI by hand, nothing imported.
;;
;; It answers {"hello":"from a few lines of WebAssembly","you sent":<params>}. The parameters arrive as JSON text, so
;; they are not parsed: the text before them lies in memory already, and one brace is put behind them.
;;
;;   0                      16                        16 + prefix                                     65536
;;   | unused               | {"hello":…,"you sent":  | room for the parameters, then "}"              |
(module
  ;; One page of 64 KiB, and never more: a memory with a small bound is the cheapest to keep warm.
  (memory (export "memory") 1 1)

  (data (i32.const 16) "{\"hello\":\"from a few lines of WebAssembly\",\"you sent\":")
  (global $answer i32 (i32.const 16))
  (global $prefix_len i32 (i32.const 54))

  ;; Where may the host write `len` bytes? Always at the same place, if they fit with the brace behind; 0 says no.
  (func (export "wisp_alloc") (param $len i32) (result i32)
    (if (i32.gt_u (local.get $len) (i32.const 65465)) ;; 65536 - 16 - 54 - 1
      (then (return (i32.const 0))))
    (i32.add (global.get $answer) (global.get $prefix_len)))

  ;; One activation: the parameters are the `len` bytes at `ptr`. The answer is an address and a length in one number.
  (func (export "wisp_run") (param $ptr i32) (param $len i32) (result i64)
    (i32.store8 (i32.add (local.get $ptr) (local.get $len)) (i32.const 0x7d)) ;; "}"
    (i64.or
      (i64.shl (i64.extend_i32_u (global.get $answer)) (i64.const 32))
      (i64.extend_i32_u
        (i32.add (i32.add (global.get $prefix_len) (local.get $len)) (i32.const 1))))))
