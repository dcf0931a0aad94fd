package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dop251/goja"
	"github.com/heroiclabs/nakama-common/runtime"
)

// script is a JavaScript module in the engine that Nakama uses, with what our module uses of Nakama's runtime.
type script struct {
	// The engine is not for several threads.
	mutex   sync.Mutex
	vm      *goja.Runtime
	context goja.Value
	logger  map[string]any
	matched goja.Callable
	// Notifications sent by the hook that runs.
	sent []any
}

func loadScript(logger runtime.Logger, env map[string]string, path string) (*script, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &script{vm: goja.New()}
	s.vm.SetFieldNameMapper(goja.TagFieldNameMapper("json", true))
	s.logger = map[string]any{"debug": logger.Debug, "info": logger.Info, "warn": logger.Warn, "error": logger.Error}
	s.context = s.vm.ToValue(map[string]any{"env": env})
	if _, err := s.vm.RunScript(path, string(text)); err != nil {
		return nil, err
	}
	init, ok := goja.AssertFunction(s.vm.Get("InitModule"))
	if !ok {
		return nil, errors.New("there is no InitModule")
	}
	register := func(function goja.Value) error {
		var ok bool
		if s.matched, ok = goja.AssertFunction(function); !ok {
			return errors.New("the hook is no function")
		}
		return nil
	}
	initializer := map[string]any{"registerMatchmakerMatched": register}
	if _, err := init(goja.Undefined(), s.context, s.vm.ToValue(s.logger), s.nakama(), s.vm.ToValue(initializer)); err != nil {
		return nil, err
	}
	if s.matched == nil {
		return nil, errors.New("no hook is registered")
	}
	return s, nil
}

func (s *script) nakama() goja.Value {
	return s.vm.ToValue(map[string]any{
		"uuidv4":            rand.Text,
		"httpRequest":       httpRequest,
		"notificationsSend": func(notifications []any) { s.sent = append(s.sent, notifications...) },
	})
}

func httpRequest(url, method string, headers map[string]string, body string, timeoutMs int64) (map[string]any, error) {
	request, err := http.NewRequest(strings.ToUpper(method), url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	client := http.Client{Timeout: time.Duration(timeoutMs) * time.Millisecond}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return map[string]any{"code": response.StatusCode, "body": string(text)}, err
}

// serve calls the hook with the entries in the body, and answers the notifications that it sent.
func (s *script) serve(response http.ResponseWriter, request *http.Request) {
	text, err := body(request)
	var entries []any
	if err == nil {
		err = json.Unmarshal(text, &entries)
	}
	if err != nil {
		refuse(response, runtime.NewError(err.Error(), 3))
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.sent = []any{}
	returned, err := s.matched(goja.Undefined(), s.context, s.vm.ToValue(s.logger), s.nakama(), s.vm.ToValue(entries))
	if err == nil && !goja.IsUndefined(returned) {
		err = fmt.Errorf("the hook returns %v: Nakama takes that for a match of its own", returned)
	}
	if err != nil {
		refuse(response, runtime.NewError(err.Error(), 13))
		return
	}
	answer(response, http.StatusOK, map[string]any{"notifications": s.sent})
}
