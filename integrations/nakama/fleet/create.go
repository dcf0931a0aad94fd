package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heroiclabs/nakama-common/runtime"
)

const (
	// lookFirst and lookMax bound the pause between two looks at an operation: most are over within a second, and those
	// that wait for a server to come up take minutes.
	lookFirst = 200 * time.Millisecond
	lookMax   = 3 * time.Second
	// cancelAttempts is how often a Create that took too long is cancelled before it is left to its lease.
	cancelAttempts = 5
)

var errTooLate = errors.New("create timeout")

func (f *fleetManager) request(maxPlayers int, userIds []string, userLatencies []runtime.FleetUserLatencies, metadata map[string]any) *instanceRequest {
	return &instanceRequest{maxPlayers, userIds, latencies(userLatencies), metadata, f.settings.Voice, f.settings.Selectors}
}

// begin asks for an instance and returns the operation's id. Nothing has begun, and the callback is never invoked, when
// it returns an error; otherwise the callback is invoked once, whatever happens.
//
// A bridge that cannot be reached has not refused: the work goes on in the background, under the same idempotency key.
func (f *fleetManager) begin(ctx context.Context, request *instanceRequest, callback runtime.FmCreateCallbackFn) (string, error) {
	if f.callback == nil {
		return "", runtime.NewError("bifrost: the fleet manager is not registered", codeInternal)
	}
	if callback == nil {
		return "", runtime.NewError("invalid_argument: Create needs a callback", codeInvalidArgument)
	}
	if err := ctx.Err(); err != nil {
		return "", runtime.NewError("cancelled: "+err.Error(), codeCancelled)
	}
	select {
	case f.pending <- struct{}{}:
	default:
		return "", runtime.NewError(fmt.Sprintf("unavailable: %d creates are under way", pendingMax), codeResourceExhausted)
	}
	// Names the callback in Nakama, and the operation at the bridge.
	key := f.callback.GenerateCallbackId()
	begun, err := f.bridge.create(ctx, key, request)
	var refused *problem
	if errors.As(err, &refused) && !refused.mayPass() {
		<-f.pending
		return "", toRuntime(err)
	}
	f.callback.SetCallback(key, callback)
	go func() {
		defer func() { <-f.pending }()
		f.finish(key, request, begun)
	}()
	if begun == nil {
		return "", nil
	}
	return begun.ID, nil
}

// finish waits for the end of an operation and tells it. The caller of Create is long gone.
func (f *fleetManager) finish(key string, request *instanceRequest, begun *operation) {
	ctx, stop := context.WithTimeoutCause(context.Background(), f.settings.CreateTimeout, errTooLate)
	defer stop()
	done, err := f.settle(ctx, key, request, begun)
	switch {
	case err != nil && context.Cause(ctx) == errTooLate:
		f.fail(key, runtime.CreateTimeout, runtime.NewError(fmt.Sprintf("exhausted: no instance within %s", f.settings.CreateTimeout), codeDeadlineExceeded))
	case err != nil:
		f.fail(key, runtime.CreateError, toRuntime(err))
	case done.State == stateSucceeded:
		f.succeed(key, request, done)
	case done.Error != nil && done.Error.Kind == "exhausted":
		f.fail(key, runtime.CreateTimeout, toRuntime(done.Error))
	case done.Error != nil:
		f.fail(key, runtime.CreateError, toRuntime(done.Error))
	case done.State == stateCancelled:
		f.fail(key, runtime.CreateError, runtime.NewError("cancelled: the operation was cancelled", codeCancelled))
	default:
		f.fail(key, runtime.CreateError, runtime.NewError("bad_response: the operation ended as "+done.State, codeUnavailable))
	}
}

// settle returns the operation once it is over. When the time is up it is cancelled, so that no server runs that nobody
// knows of; one that ended just then counts as ended.
func (f *fleetManager) settle(ctx context.Context, key string, request *instanceRequest, current *operation) (*operation, error) {
	for attempt := 0; ; attempt++ {
		if current != nil && current.State != statePending {
			return current, nil
		}
		if err := f.wait(ctx, attempt); err != nil {
			return f.giveUp(key, request, current)
		}
		var next *operation
		var err error
		if current == nil {
			next, err = f.bridge.create(ctx, key, request)
		} else {
			next, err = f.bridge.look(ctx, current.ID)
		}
		var refused *problem
		switch {
		case err == nil:
			current = next
		case errors.As(err, &refused) && !refused.mayPass():
			return nil, err
		default:
			f.logger.Debug("bifrost: create %s: %v", key, err)
		}
	}
}

// giveUp cancels an operation whose time is up.
func (f *fleetManager) giveUp(key string, request *instanceRequest, current *operation) (*operation, error) {
	ctx, stop := context.WithTimeout(context.Background(), cancelAttempts*f.settings.Timeout)
	defer stop()
	var err error
	for attempt := range cancelAttempts {
		if attempt > 0 && f.wait(ctx, attempt) != nil {
			break
		}
		// An answer may have been lost, so that an operation runs whose id is not known: the same key finds it.
		if current == nil {
			if current, err = f.bridge.create(ctx, key, request); err != nil {
				continue
			}
		}
		_, err = f.bridge.cancel(ctx, current.ID)
		if err == nil {
			return nil, errTooLate
		}
		var refused *problem
		if errors.As(err, &refused) && refused.Kind == "not_pending" {
			return f.bridge.look(ctx, current.ID)
		}
	}
	f.logger.Warn("bifrost: create %s took too long and cannot be cancelled, its lease will end it: %v", key, err)
	return nil, errTooLate
}

// succeed tells of a new instance. What the fleet and the voice gateway say of it is worth a moment, and not worth the
// instance: players can be sent there without.
func (f *fleetManager) succeed(key string, request *instanceRequest, done *operation) {
	ctx, stop := context.WithTimeout(context.Background(), f.settings.Timeout)
	defer stop()
	if done.Instance == nil {
		f.fail(key, runtime.CreateError, runtime.NewError("bad_response: the operation has no instance", codeUnavailable))
		return
	}
	instance, err := f.bridge.get(ctx, done.Instance.ID)
	if err != nil {
		f.logger.Warn("bifrost: instance %s runs, and cannot be read: %v", done.Instance.ID, err)
		instance = &runtime.InstanceInfo{Id: done.Instance.ID, ConnectionInfo: done.Instance.ConnectionInfo, CreateTime: done.CreatedAt, Metadata: map[string]any{}}
	}
	metadata := map[string]any{"match_id": done.ID}
	if request.Voice != nil {
		// Voice tokens are only handed to whoever asked for the instance.
		again, err := f.bridge.create(ctx, key, request)
		if err == nil {
			done = again
		} else {
			f.logger.Warn("bifrost: instance %s runs, and its players have no voice: %v", done.Instance.ID, err)
		}
	}
	if done.Match != nil {
		metadata["expires_at"] = done.Match.ExpiresAt
		metadata["players"] = done.Match.Players
	}
	sessions := done.Sessions
	if len(request.UserIDs) == 0 {
		sessions = nil
	}
	f.callback.InvokeCallback(key, runtime.CreateSuccess, instance, sessions, metadata, nil)
}

func (f *fleetManager) fail(key string, status runtime.FmCreateStatus, err error) {
	f.logger.Warn("bifrost: create %s failed: %v", key, err)
	f.callback.InvokeCallback(key, status, nil, nil, nil, err)
}

func latencies(all []runtime.FleetUserLatencies) []userLatency {
	told := make([]userLatency, 0, len(all))
	for _, one := range all {
		told = append(told, userLatency{one.UserId, one.LatencyInMilliseconds, one.RegionIdentifier})
	}
	return told
}

// pause waits before the next look; it fails when the context is done first.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(min(lookFirst<<min(attempt, 8), lookMax))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
