;; Makes its root context the effective one and edits the request.
(module
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-root")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $effective (i32.const 1)))
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6)))
    (i32.const 0)))
