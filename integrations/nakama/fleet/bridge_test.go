package fleet

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/heroiclabs/nakama-common/runtime"
)

const testToken = "a-token-of-the-bridge"

// asked is one call that a scripted bridge got.
type asked struct {
	method, path, key string
	header            http.Header
	body              map[string]any
}

// answer is what a scripted bridge says to one call.
type answer struct {
	status int
	body   string
}

// scripted is a bridge that answers each "METHOD path" with its answers in order, and repeats the last one.
type scripted struct {
	*httptest.Server
	mutex   sync.Mutex
	answers map[string][]answer
	calls   []asked
}

func newBridge(t *testing.T, answers map[string][]answer) *scripted {
	bridge := &scripted{answers: answers}
	bridge.Server = httptest.NewServer(http.HandlerFunc(bridge.serve))
	t.Cleanup(bridge.Close)
	return bridge
}

func (s *scripted) serve(response http.ResponseWriter, request *http.Request) {
	text, _ := io.ReadAll(request.Body)
	call := asked{method: request.Method, path: request.RequestURI, key: request.Header.Get("Idempotency-Key"), header: request.Header}
	_ = json.Unmarshal(text, &call.body)
	s.mutex.Lock()
	s.calls = append(s.calls, call)
	name := call.method + " " + call.path
	script := s.answers[name]
	if len(script) > 1 {
		s.answers[name] = script[1:]
	}
	s.mutex.Unlock()
	if len(script) == 0 {
		http.Error(response, "no answer to "+name, http.StatusTeapot)
		return
	}
	if script[0].status == 0 {
		panic(http.ErrAbortHandler)
	}
	response.Header().Set("Location", "/elsewhere")
	response.WriteHeader(script[0].status)
	_, _ = io.WriteString(response, script[0].body)
}

func (s *scripted) asked() []asked {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]asked(nil), s.calls...)
}

func (s *scripted) settings() Settings {
	return Settings{BridgeURL: s.URL, Token: testToken, Timeout: 5 * time.Second, CreateTimeout: 20 * time.Second}
}

// invoked is what a callback was told.
type invoked struct {
	status   runtime.FmCreateStatus
	instance *runtime.InstanceInfo
	sessions []*runtime.SessionInfo
	metadata map[string]any
	err      error
}

// callbacks stands for Nakama's callback handler: it keeps a callback until it is invoked.
type callbacks struct {
	mutex sync.Mutex
	kept  map[string]runtime.FmCreateCallbackFn
	count map[string]int
}

func (c *callbacks) GenerateCallbackId() string { return "callback-1" }

func (c *callbacks) SetCallback(id string, fn runtime.FmCreateCallbackFn) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.kept == nil {
		c.kept, c.count = map[string]runtime.FmCreateCallbackFn{}, map[string]int{}
	}
	c.kept[id] = fn
}

func (c *callbacks) InvokeCallback(id string, status runtime.FmCreateStatus, instance *runtime.InstanceInfo, sessions []*runtime.SessionInfo, metadata map[string]any, err error) {
	c.mutex.Lock()
	fn := c.kept[id]
	c.count[id]++
	c.mutex.Unlock()
	fn(status, instance, sessions, metadata, err)
}

type silent struct{}

func (silent) Debug(string, ...any)                       {}
func (silent) Info(string, ...any)                        {}
func (silent) Warn(string, ...any)                        {}
func (silent) Error(string, ...any)                       {}
func (s silent) WithField(string, any) runtime.Logger     { return s }
func (s silent) WithFields(map[string]any) runtime.Logger { return s }
func (silent) Fields() map[string]any                     { return nil }
