;; Wants the host to bring the memory.
(module
  (import "env" "memory" (memory 1))
  (func (export "proxy_abi_version_0_2_1")))
