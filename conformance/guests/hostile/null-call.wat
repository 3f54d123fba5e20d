;; Calls an element of a table that is null.
(module
  (memory (export "memory") 1)
  (table 1 funcref)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (call_indirect (result i32) (i32.const 0))))
