// Package fleet is a Nakama FleetManager on a Bifrost bridge.
//
// It speaks the bridge's HTTP interface (openapi/fleet-bridge.json) and knows nothing of ODIN Fleet itself.
package fleet

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Names of the settings in Nakama's runtime.env.
const (
	envURL           = "BIFROST_BRIDGE_URL"
	envToken         = "BIFROST_BRIDGE_TOKEN"
	envTimeout       = "BIFROST_TIMEOUT_MS"
	envCreateTimeout = "BIFROST_CREATE_TIMEOUT_SECONDS"
	envVoice         = "BIFROST_VOICE"
	envSelectors     = "BIFROST_SELECTORS"
)

const (
	// timeoutDefault is longer than the 5 s that a bridge gives a call, so that the bridge's own word arrives.
	timeoutDefault = 10 * time.Second
	// createTimeoutDefault is longer than the 300 s that a bridge gives a Create, for the same reason.
	createTimeoutDefault = 330 * time.Second
)

// Settings say which bridge is asked, and how.
type Settings struct {
	// BridgeURL is where the bridge listens, without a slash at its end.
	BridgeURL string
	// Token is shown to the bridge with every call.
	Token string
	// Timeout is how long one call of the bridge may take.
	Timeout time.Duration
	// CreateTimeout is how long a Create may take in all, before it is cancelled and its callback hears CreateTimeout.
	CreateTimeout time.Duration
	// Voice says which voice rooms a created instance has; nil for none.
	Voice *VoiceWish
	// Selectors say where instances may be created, best first; nil for everywhere. JSON as the bridge takes it.
	Selectors json.RawMessage
}

// VoiceWish names the voice rooms of an instance's match.
type VoiceWish struct {
	// Match is a room for everybody.
	Match bool `json:"match,omitempty"`
	// Teams is a room for each team.
	Teams bool `json:"teams,omitempty"`
	// Proximity is a room in which players hear those who are near.
	Proximity bool `json:"proximity,omitempty"`
}

// SettingsFromEnv reads the settings from Nakama's runtime.env. Its errors name the setting, and never show the token.
func SettingsFromEnv(env map[string]string) (Settings, error) {
	settings := Settings{Token: strings.TrimSpace(env[envToken])}
	var err error
	if settings.BridgeURL, err = bridgeURL(env[envURL]); err != nil {
		return Settings{}, err
	}
	if settings.Token == "" {
		return Settings{}, fmt.Errorf("bifrost: %s is missing in Nakama's runtime.env: set it to a token of the bridge with the scope write", envToken)
	}
	if settings.Timeout, err = duration(env, envTimeout, time.Millisecond, timeoutDefault); err != nil {
		return Settings{}, err
	}
	if settings.CreateTimeout, err = duration(env, envCreateTimeout, time.Second, createTimeoutDefault); err != nil {
		return Settings{}, err
	}
	if settings.Voice, err = voiceWish(env[envVoice]); err != nil {
		return Settings{}, err
	}
	if text := strings.TrimSpace(env[envSelectors]); text != "" {
		var selectors []json.RawMessage
		if err := json.Unmarshal([]byte(text), &selectors); err != nil {
			return Settings{}, fmt.Errorf("bifrost: %s is not a JSON array of selectors: %w", envSelectors, err)
		}
		settings.Selectors = json.RawMessage(text)
	}
	return settings, nil
}

func bridgeURL(text string) (string, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "/")
	if text == "" {
		return "", fmt.Errorf("bifrost: %s is missing in Nakama's runtime.env: set it to the address of the bridge, such as http://127.0.0.1:8090", envURL)
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return "", fmt.Errorf("bifrost: %s must look like http://127.0.0.1:8090", envURL)
	}
	if parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return "", fmt.Errorf("bifrost: %s must have no user, query or fragment: the token goes into %s", envURL, envToken)
	}
	return text, nil
}

func duration(env map[string]string, name string, unit, otherwise time.Duration) (time.Duration, error) {
	text := strings.TrimSpace(env[name])
	if text == "" {
		return otherwise, nil
	}
	// Beyond 32 bits the product could overflow; no wait is that long.
	count, err := strconv.ParseInt(text, 10, 32)
	if err != nil || count < 1 {
		return 0, fmt.Errorf("bifrost: %s must be a whole number from 1, not %q", name, text)
	}
	return time.Duration(count) * unit, nil
}

func voiceWish(text string) (*VoiceWish, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var wish VoiceWish
	for name := range strings.SplitSeq(text, ",") {
		switch strings.TrimSpace(name) {
		case "match":
			wish.Match = true
		case "teams":
			wish.Teams = true
		case "proximity":
			wish.Proximity = true
		default:
			return nil, fmt.Errorf("bifrost: %s must be a list of match, teams and proximity, not %q", envVoice, text)
		}
	}
	return &wish, nil
}
