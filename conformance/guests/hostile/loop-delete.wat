;; Loops for ever when an exchange is deleted.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_delete") (param $context i32)
    (if (i32.gt_u (local.get $context) (i32.const 1)) (then (loop $spin (br $spin))))))
