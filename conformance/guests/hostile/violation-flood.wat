;; Does what has no meaning, for as long as it may.
(module
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_log") (param $context i32)
    (if (i32.gt_u (local.get $context) (i32.const 1)) (then (loop $again (drop (call $continue (i32.const 0))) (br $again))))))
