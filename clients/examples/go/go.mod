module liminal.example/first

go 1.19
