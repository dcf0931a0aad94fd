// Command standin loads Nakama runtime modules as Nakama does, and offers what a test needs of Nakama around them: RPCs
// over HTTP, and the matchmaker's hook. It is not Nakama: there are no users, no sessions, no sockets, no database and
// no matchmaker. What passes here shows that the modules load and do their work; that Nakama runs them, only Nakama shows.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"plugin"
	"strings"

	"github.com/heroiclabs/nakama-common/runtime"
)

// bodyBytesMax bounds what is read of one request.
const bodyBytesMax = 1 << 20

type repeated []string

func (r *repeated) String() string { return strings.Join(*r, " ") }

func (r *repeated) Set(text string) error {
	*r = append(*r, text)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var env, plugins repeated
	flag.Var(&env, "env", "KEY=VALUE of runtime.env, repeated")
	flag.Var(&plugins, "plugin", "a Go module, repeated; loaded in this order")
	scriptPath := flag.String("script", "", "a JavaScript module")
	key := flag.String("http-key", "defaulthttpkey", "what calls of RPCs must show")
	flag.Parse()

	logger := newLogger()
	host := &host{rpcs: map[string]rpcFunction{}, env: map[string]string{}}
	for _, pair := range env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("-env %s has no value", name)
		}
		host.env[name] = value
	}
	ctx := context.WithValue(context.Background(), runtime.RUNTIME_CTX_ENV, host.env)
	for _, path := range plugins {
		if err := load(ctx, logger, host, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	var hooks *script
	if *scriptPath != "" {
		var err error
		if hooks, err = loadScript(logger, host.env, *scriptPath); err != nil {
			return fmt.Errorf("%s: %w", *scriptPath, err)
		}
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v2/rpc/{id}", func(response http.ResponseWriter, request *http.Request) {
		if request.URL.Query().Get("http_key") != *key {
			refuse(response, runtime.NewError("HTTP key invalid", 16))
			return
		}
		host.serve(ctx, logger, response, request)
	})
	mux.HandleFunc("POST /stand-in/matched", func(response http.ResponseWriter, request *http.Request) {
		if hooks == nil {
			refuse(response, runtime.NewError("no JavaScript module is loaded", 12))
			return
		}
		hooks.serve(response, request)
	})
	fmt.Printf("{\"address\":\"http://%s\"}\n", listener.Addr())
	return http.Serve(listener, mux)
}

// load does what Nakama does with each .so in its runtime path.
func load(ctx context.Context, logger runtime.Logger, host *host, path string) error {
	opened, err := plugin.Open(path)
	if err != nil {
		return err
	}
	symbol, err := opened.Lookup("InitModule")
	if err != nil {
		return err
	}
	initModule, ok := symbol.(initModule)
	if !ok {
		return fmt.Errorf("InitModule is a %T", symbol)
	}
	return initModule(ctx, logger, nil, nakama{host: host}, initializer{host: host})
}

func body(request *http.Request) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(nil, request.Body, bodyBytesMax))
}

// httpStatus has the statuses of gRPC codes that are not 500.
var httpStatus = map[int]int{1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503, 16: 401}

// refuse answers with an error in Nakama's shape.
func refuse(response http.ResponseWriter, err error) {
	code := 13
	if told, ok := err.(*runtime.Error); ok {
		code = told.Code
	}
	status, ok := httpStatus[code]
	if !ok {
		status = http.StatusInternalServerError
	}
	answer(response, status, map[string]any{"code": code, "error": err.Error(), "message": err.Error()})
}

func answer(response http.ResponseWriter, status int, value any) {
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(status)
	_ = json.NewEncoder(response).Encode(value)
}
