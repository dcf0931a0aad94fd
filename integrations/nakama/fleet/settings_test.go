package fleet

import (
	"strings"
	"testing"
	"time"
)

func env(more ...string) map[string]string {
	all := map[string]string{envURL: "http://127.0.0.1:8090/", envToken: testToken}
	for at := 0; at < len(more); at += 2 {
		all[more[at]] = more[at+1]
	}
	return all
}

func TestTheAddressAndTheTokenAreEnough(t *testing.T) {
	settings, err := SettingsFromEnv(env())
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{BridgeURL: "http://127.0.0.1:8090", Token: testToken, Timeout: timeoutDefault, CreateTimeout: createTimeoutDefault}
	if settings.BridgeURL != want.BridgeURL || settings.Token != want.Token || settings.Timeout != want.Timeout || settings.CreateTimeout != want.CreateTimeout || settings.Voice != nil || settings.Selectors != nil {
		t.Fatalf("%+v", settings)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	settings, err := SettingsFromEnv(env(envTimeout, "250", envCreateTimeout, "7", envVoice, "match, proximity", envSelectors, `[{"policy": "spread"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if settings.Timeout != 250*time.Millisecond || settings.CreateTimeout != 7*time.Second {
		t.Errorf("%v, %v", settings.Timeout, settings.CreateTimeout)
	}
	if *settings.Voice != (VoiceWish{Match: true, Proximity: true}) || string(settings.Selectors) != `[{"policy": "spread"}]` {
		t.Errorf("%+v, %s", settings.Voice, settings.Selectors)
	}
}

func TestASettingThatIsMissingOrWrongIsNamed(t *testing.T) {
	cases := [][2]string{
		{envURL, ""}, {envURL, "127.0.0.1:8090"}, {envURL, "ftp://bridge"}, {envURL, "http://user:secret@bridge"}, {envURL, "http://bridge?a=b"},
		{envToken, " "}, {envTimeout, "0"}, {envTimeout, "soon"}, {envCreateTimeout, "99999999999"},
		{envVoice, "match,everything"}, {envSelectors, "{}"},
	}
	for _, one := range cases {
		_, err := SettingsFromEnv(env(one[0], one[1]))
		if err == nil || !strings.Contains(err.Error(), one[0]) {
			t.Errorf("%s=%q: %v", one[0], one[1], err)
			continue
		}
		if strings.Contains(err.Error(), testToken) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%q shows a secret: %v", one[0], one[1], err)
		}
	}
	if _, err := SettingsFromEnv(nil); err == nil {
		t.Error("no settings are enough")
	}
}
