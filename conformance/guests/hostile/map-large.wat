;; Replaces the headers by a map of one byte more than a megabyte.
(module
  (import "env" "proxy_set_header_map_pairs" (func $setpairs (param i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $setpairs (i32.const 0) (i32.const 0) (i32.const 1048577)))
    (i32.const 0)))
