;; Announces a hundred million data segments and brings none.
(module binary
  "\00asm" "\01\00\00\00"
  "\05\03\01\00\01"            ;; a memory of one page
  "\0c\04\80\c2\d7\2f")       ;; 100 000 000 data segments
