module wisp

go 1.24
