package fleet

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/heroiclabs/nakama-common/runtime"
)

// gRPC codes, in which Nakama's runtime errors are told.
const (
	codeCancelled          = 1
	codeInvalidArgument    = 3
	codeDeadlineExceeded   = 4
	codeNotFound           = 5
	codeResourceExhausted  = 8
	codeFailedPrecondition = 9
	codeUnimplemented      = 12
	codeInternal           = 13
	codeUnavailable        = 14
)

// codeByKind has the bridge's kinds. The bridge's own refusals of this module's token are the operator's to mend, not
// the player's, so they are internal; so is every kind that is not here.
var codeByKind = map[string]int{
	"invalid_argument":       codeInvalidArgument,
	"invalid_query":          codeInvalidArgument,
	"unsupported_filter":     codeInvalidArgument,
	"invalid_cursor":         codeInvalidArgument,
	"validation":             codeInvalidArgument,
	"start_rejected":         codeInvalidArgument,
	"idempotency_key_reused": codeInvalidArgument,
	"not_found":              codeNotFound,
	"conversion_failed":      codeFailedPrecondition,
	"not_running":            codeFailedPrecondition,
	"not_pending":            codeFailedPrecondition,
	"match_full":             codeResourceExhausted,
	"exhausted":              codeResourceExhausted,
	"unimplemented":          codeUnimplemented,
	"unavailable":            codeUnavailable,
	"bad_response":           codeUnavailable,
}

// problem is what the bridge says when it refuses a call (RFC 9457), or what this module says when the bridge says
// nothing that can be understood.
type problem struct {
	Kind      string              `json:"kind"`
	Detail    string              `json:"detail"`
	Status    int                 `json:"status"`
	RequestID string              `json:"request_id"`
	Errors    map[string][]string `json:"errors"`
}

// Error begins with the kind, so that whoever reads the text of a runtime error can tell kinds apart.
func (p *problem) Error() string {
	text := fmt.Sprintf("%s: %s", p.Kind, p.Detail)
	if len(p.Errors) > 0 {
		text += fmt.Sprintf(" %v", p.Errors)
	}
	if p.RequestID != "" {
		text += fmt.Sprintf(" (request %s)", p.RequestID)
	}
	return text
}

// mayPass says whether the same call may succeed a little later.
func (p *problem) mayPass() bool {
	switch p.Status {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		// The bridge's token at the Fleet is refused with 502; that does not pass by itself.
		return p.Kind != "unauthenticated" && p.Kind != "permission_denied"
	default:
		return false
	}
}

// toRuntime makes an error that Nakama passes on with a code of its own.
func toRuntime(err error) error {
	if err == nil {
		return nil
	}
	var refused *problem
	if errors.As(err, &refused) {
		code, known := codeByKind[refused.Kind]
		if !known {
			code = codeInternal
		}
		return runtime.NewError(refused.Error(), code)
	}
	return runtime.NewError(err.Error(), codeInternal)
}
