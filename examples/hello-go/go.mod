module hello-go

go 1.24

require wisp v0.0.0

replace wisp => ../../runtimes/go
