;; Grows a table until it gets no more, and then falls over.
(module
  (memory (export "memory") 1)
  (table $table 1 funcref)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (loop $again (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 65536)) (i32.const -1))))
    unreachable))
