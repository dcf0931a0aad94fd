module bifrost/integrations/nakama

go 1.25.0

require github.com/heroiclabs/nakama-common v1.42.0

require google.golang.org/protobuf v1.36.8 // indirect
