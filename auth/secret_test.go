package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretNeverShows(t *testing.T) {
	const canary = "canary-8c1f"
	secret := Secret(canary)
	inside := struct {
		S Secret
		P *Secret
	}{secret, &secret}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s", "%T %[1]v"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", inside)
		fmt.Fprintf(&out, verb+"\n", []Secret{secret})
		fmt.Fprintf(&out, verb+"\n", map[Secret]Secret{secret: secret})
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "s", secret, "in", inside, "list", []Secret{secret}, "group", slog.GroupValue(slog.Any("s", secret)))
	}
	for _, v := range []any{secret, inside, []Secret{secret}, map[string]Secret{"s": secret}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	text, err := secret.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	out.WriteString(secret.String() + secret.GoString())
	out.WriteString(fmt.Errorf("w: %v", secret).Error())

	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret shows as %s in\n%s", form, out.String())
		}
	}
	if got := secret.Reveal(); got != canary {
		t.Errorf("Reveal() = %q; want %q", got, canary)
	}
}
