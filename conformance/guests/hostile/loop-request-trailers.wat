;; Loops for ever in the callback for request trailers.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_trailers") (param $context i32) (param $count i32) (result i32)
    (loop $spin (br $spin))
    (i32.const 0)))
