;; Loops for ever when it is asked to end.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_done") (param $context i32) (result i32)
    (if (i32.eq (local.get $context) (i32.const 1)) (then (loop $spin (br $spin))))
    (i32.const 1)))
