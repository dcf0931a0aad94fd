package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/heroiclabs/nakama-common/runtime"
)

// answerBytesMax bounds what is read of one answer: a page of 100 servers with large metadata is far below it.
const answerBytesMax = 16 << 20

// client calls a bridge. Every error it returns is a *problem.
type client struct {
	base  string
	token string
	http  *http.Client
}

func newClient(settings Settings) *client {
	return &client{
		base:  settings.BridgeURL,
		token: settings.Token,
		http: &http.Client{
			Timeout: settings.Timeout,
			// A redirect would take the token to somewhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// instanceRequest is the body of Create.
type instanceRequest struct {
	MaxPlayers int             `json:"max_players"`
	UserIDs    []string        `json:"user_ids,omitempty"`
	Latencies  []userLatency   `json:"latencies,omitempty"`
	Metadata   map[string]any  `json:"metadata,omitempty"`
	Voice      *VoiceWish      `json:"voice,omitempty"`
	Selectors  json.RawMessage `json:"selectors,omitempty"`
}

type userLatency struct {
	UserID           string  `json:"user_id"`
	Milliseconds     float32 `json:"latency_in_milliseconds"`
	RegionIdentifier string  `json:"region_identifier"`
}

// operation is work that the bridge goes on with by itself.
type operation struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	Error     *problem  `json:"error"`
	Instance  *struct {
		ID             string                  `json:"id"`
		ConnectionInfo *runtime.ConnectionInfo `json:"connection_info"`
	} `json:"instance"`
	Sessions []*runtime.SessionInfo `json:"sessions"`
	Match    *struct {
		ExpiresAt string           `json:"expires_at"`
		Players   []map[string]any `json:"players"`
	} `json:"match"`
}

// States of an operation.
const (
	statePending   = "pending"
	stateSucceeded = "succeeded"
	stateCancelled = "cancelled"
)

func (c *client) list(ctx context.Context, query string, limit int, cursor string) ([]*runtime.InstanceInfo, string, error) {
	values := url.Values{"query": {query}}
	if limit != 0 {
		values.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		values.Set("cursor", cursor)
	}
	var page struct {
		Instances  []*runtime.InstanceInfo `json:"instances"`
		NextCursor string                  `json:"next_cursor"`
	}
	err := c.call(ctx, http.MethodGet, "/v1/instances?"+values.Encode(), nil, "", &page)
	return page.Instances, page.NextCursor, err
}

func (c *client) get(ctx context.Context, id string) (*runtime.InstanceInfo, error) {
	var instance runtime.InstanceInfo
	if err := c.call(ctx, http.MethodGet, path("instances", id), nil, "", &instance); err != nil {
		return nil, err
	}
	return &instance, nil
}

func (c *client) update(ctx context.Context, id string, playerCount int, metadata map[string]any) error {
	body := map[string]any{"player_count": playerCount}
	if metadata != nil {
		body["metadata"] = metadata
	}
	return c.call(ctx, http.MethodPatch, path("instances", id), body, "", nil)
}

func (c *client) delete(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, path("instances", id), nil, "", nil)
}

func (c *client) join(ctx context.Context, id string, userIDs []string, metadata map[string]string) (*runtime.JoinInfo, error) {
	body := map[string]any{"user_ids": userIDs}
	if metadata != nil {
		body["metadata"] = metadata
	}
	var joined runtime.JoinInfo
	if err := c.call(ctx, http.MethodPost, path("instances", id)+"/sessions", body, "", &joined); err != nil {
		return nil, err
	}
	return &joined, nil
}

// create begins an operation; the same key gives the same operation, with the players' voice once it has succeeded.
func (c *client) create(ctx context.Context, key string, request *instanceRequest) (*operation, error) {
	return c.operation(ctx, http.MethodPost, "/v1/instances", request, key)
}

func (c *client) look(ctx context.Context, id string) (*operation, error) {
	return c.operation(ctx, http.MethodGet, path("operations", id), nil, "")
}

func (c *client) cancel(ctx context.Context, id string) (*operation, error) {
	return c.operation(ctx, http.MethodDelete, path("operations", id), nil, "")
}

func (c *client) operation(ctx context.Context, method, path string, body any, key string) (*operation, error) {
	var answer operation
	if err := c.call(ctx, method, path, body, key, &answer); err != nil {
		return nil, err
	}
	if answer.ID == "" || answer.State == "" {
		return nil, &problem{Kind: "bad_response", Detail: "the bridge's answer is not an operation"}
	}
	return &answer, nil
}

// path keeps an id one segment, whatever is in it.
func path(collection, id string) string {
	return "/v1/" + collection + "/" + url.PathEscape(id)
}

// call makes one call; key is its idempotency key, if any. into may be nil when only success matters.
func (c *client) call(ctx context.Context, method, path string, body any, key string, into any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return &problem{Kind: "invalid_argument", Detail: err.Error(), Status: http.StatusBadRequest}
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return &problem{Kind: "invalid_argument", Detail: err.Error(), Status: http.StatusBadRequest}
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return &problem{Kind: "unavailable", Detail: "the bridge does not answer: " + reason(err)}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax+1))
	if err != nil {
		return &problem{Kind: "unavailable", Detail: "the bridge's answer breaks off: " + reason(err)}
	}
	return read(response.StatusCode, text, into)
}

// reason leaves out the URL, in which a query may hold what is nobody's business.
func reason(err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err.Error()
	}
	return err.Error()
}

func read(status int, text []byte, into any) error {
	if len(text) > answerBytesMax {
		return &problem{Kind: "bad_response", Detail: fmt.Sprintf("the bridge's answer has more than %d bytes", answerBytesMax), Status: http.StatusBadGateway}
	}
	if status < 200 || status > 299 {
		var refused problem
		if err := json.Unmarshal(text, &refused); err != nil || refused.Kind == "" {
			refused = problem{Kind: "bad_response", Detail: fmt.Sprintf("status %d, and no problem of the bridge", status)}
		}
		refused.Status = status
		return &refused
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &problem{Kind: "bad_response", Detail: "the bridge's answer cannot be read: " + err.Error(), Status: http.StatusBadGateway}
	}
	return nil
}
