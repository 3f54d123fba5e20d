;; Carries a name section of garbage, and traps, so that names are looked for.
(module binary
  "\00asm" "\01\00\00\00"
  "\01\0b\02\60\00\00\60\03\7f\7f\7f\01\7f"   ;; () -> (), (i32 i32 i32) -> i32
  "\03\03\02\00\01"
  "\07\36\02"
  "\17" "proxy_abi_version_0_2_1" "\00\00"
  "\18" "proxy_on_request_headers" "\00\01"
  "\0a\08\02\02\00\0b\03\00\00\0b"
  "\00\0d\04" "name" "\01\ff\ff\ff\ff\0f\ff\fe")
