;; Asks for memory for ever, whatever it is told.
(module
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (loop $again (drop (memory.grow (i32.const 1))) (br $again))
    (i32.const 0)))
