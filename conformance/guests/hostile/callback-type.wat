;; Exports a callback under another type.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param i64) (result f64) (f64.const 0)))
