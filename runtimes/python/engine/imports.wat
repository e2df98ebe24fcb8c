;; The host's functions, for the one run of the engine that makes its image: nothing there calls them.
(module
  (func (export "http_start") (param i32 i32 i32 i32) (result i32) (i32.const -1))
  (func (export "http_poll") (param i64) (result i32) (i32.const -1))
  (func (export "http_head") (param i32 i32 i32) (result i32) (i32.const -1))
  (func (export "http_read") (param i32 i32 i32) (result i32) (i32.const -2))
  (func (export "http_drop") (param i32)))
