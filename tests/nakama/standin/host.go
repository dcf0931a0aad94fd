package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"

	"github.com/heroiclabs/nakama-common/runtime"
)

type (
	initModule  = func(context.Context, runtime.Logger, *sql.DB, runtime.NakamaModule, runtime.Initializer) error
	rpcFunction = func(context.Context, runtime.Logger, *sql.DB, runtime.NakamaModule, string) (string, error)
)

// host is what modules are loaded into. What they register is read once all are loaded.
type host struct {
	env   map[string]string
	rpcs  map[string]rpcFunction
	fleet runtime.FleetManagerInitializer
}

// initializer has what our modules use of Nakama's; anything else panics.
type initializer struct {
	runtime.Initializer
	host *host
}

func (i initializer) RegisterFleetManager(manager runtime.FleetManagerInitializer) error {
	if err := manager.Init(nakama{host: i.host}, &callbacks{kept: map[string]runtime.FmCreateCallbackFn{}}); err != nil {
		return err
	}
	i.host.fleet = manager
	return nil
}

func (i initializer) RegisterRpc(id string, function rpcFunction) error {
	i.host.rpcs[id] = function
	return nil
}

// nakama has what our modules use of Nakama's; anything else panics.
type nakama struct {
	runtime.NakamaModule
	host *host
}

func (n nakama) GetFleetManager() runtime.FleetManager {
	if n.host.fleet == nil {
		return nil
	}
	return n.host.fleet
}

// callbacks invokes each callback as often as it is told to: whoever counts finds one that comes twice.
type callbacks struct {
	mutex sync.Mutex
	kept  map[string]runtime.FmCreateCallbackFn
}

func (*callbacks) GenerateCallbackId() string { return rand.Text() }

func (c *callbacks) SetCallback(id string, fn runtime.FmCreateCallbackFn) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.kept[id] = fn
}

func (c *callbacks) InvokeCallback(id string, status runtime.FmCreateStatus, instance *runtime.InstanceInfo, sessions []*runtime.SessionInfo, metadata map[string]any, err error) {
	c.mutex.Lock()
	fn := c.kept[id]
	c.mutex.Unlock()
	fn(status, instance, sessions, metadata, err)
}

// serve answers an RPC as Nakama does with `unwrap`: payloads are the bodies.
func (h *host) serve(ctx context.Context, logger runtime.Logger, response http.ResponseWriter, request *http.Request) {
	function, ok := h.rpcs[request.PathValue("id")]
	if !ok {
		refuse(response, runtime.NewError("RPC function not found", 5))
		return
	}
	payload, err := body(request)
	if err != nil {
		refuse(response, runtime.NewError(err.Error(), 3))
		return
	}
	// The call's own context, as in Nakama: whatever outlives the call must not depend on it.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	text, err := function(ctx, logger, nil, nakama{host: h}, string(payload))
	if err != nil {
		refuse(response, err)
		return
	}
	answer(response, http.StatusOK, json.RawMessage(text))
}

// logger writes to standard error.
type logger struct{ fields map[string]any }

func newLogger() runtime.Logger { return logger{} }

func (l logger) say(level, format string, values []any) {
	fmt.Fprintf(os.Stderr, "%s %s %v\n", level, fmt.Sprintf(format, values...), l.fields)
}

func (l logger) Debug(format string, values ...any) { l.say("debug", format, values) }
func (l logger) Info(format string, values ...any)  { l.say("info", format, values) }
func (l logger) Warn(format string, values ...any)  { l.say("warn", format, values) }
func (l logger) Error(format string, values ...any) { l.say("error", format, values) }

func (l logger) WithField(name string, value any) runtime.Logger {
	return l.WithFields(map[string]any{name: value})
}

func (l logger) WithFields(fields map[string]any) runtime.Logger { return logger{fields} }

func (l logger) Fields() map[string]any { return l.fields }
