;; Adds headers whose names and values hold CR, LF, NUL, spaces and colons.
(module
  (import "env" "proxy_set_header_map_pairs" (func $setpairs (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\09\00\00\00\06\00\00\00\01\00\00\00\06\00\00\00\0e\00\00\00\05\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\05\00\00\00\01\00\00\00\00\00\00\00\01\00\00\00\03\00\00\00\01\00\00\00\08\00\00\00\01\00\00\00\07\00\00\00\02\00\00\00x-good\001\00x-crlf\00a\0d\0ax-forged: 1\00x-nul\00a\00b\00x bad\001\00x:bad\001\00\001\00x-\ff\001\00:unknown\001\00x-bytes\00\ff\fe\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_request_headers") (param $context i32) (param $count i32) (param $end i32) (result i32)
    (drop (call $setpairs (i32.const 0) (i32.const 0) (i32.const 164)))
    (i32.const 0)))
