package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/storage"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roster.keys")
	if _, err := LoadKeyRing(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadKeyRing of none: %v", err)
	}
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	if err := CreateKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateKeyFile again: %v; want fs.ErrExist", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	k, err := LoadKeyRing(path)
	if err != nil || k.Newest() != 1 {
		t.Fatalf("LoadKeyRing: %v", err)
	}
	if bytes.Equal(k.Derive("a"), k.Derive("b")) || bytes.Equal(k.Derive(forSealing), k.Signer().Seed()) {
		t.Error("two purposes have one key")
	}
	if v, err := AddKey(path); v != 2 || err != nil {
		t.Fatalf("AddKey = %d, %v", v, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v after AddKey, %v", info.Mode(), err)
	}
	again, err := LoadKeyRing(path)
	if err != nil || again.Newest() != 2 || len(again.PublicKeys()) != 2 || !again.PublicKeys()[0].Equal(again.Signer().Public()) {
		t.Errorf("LoadKeyRing after AddKey: %v", err)
	}
}

// TestKeyFileLink: the key is added where all who share the file read it, and the link
// goes on leading there.
func TestKeyFileLink(t *testing.T) {
	path, link := filepath.Join(t.TempDir(), "shared.keys"), filepath.Join(t.TempDir(), "roster.keys")
	if err := errors.Join(CreateKeyFile(path), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if v, err := AddKey(link); v != 2 || err != nil {
		t.Fatalf("AddKey = %d, %v", v, err)
	}
	if k, err := LoadKeyRing(path); err != nil || k.Newest() != 2 {
		t.Errorf("the newest version behind the link is %d, %v; want 2", k.Newest(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link has become %v, %v", info.Mode(), err)
	}
}

func TestKeyFileRefused(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, test := range map[string]struct {
		text string
		mode fs.FileMode
		want string
	}{
		"for everybody to read":  {"v1:" + key, 0o604, "mode 0604"},
		"for the group to write": {"v1:" + key, 0o620, "mode 0620"},
		"empty":                  {"", 0o600, "no key"},
		"comments alone":         {"# v1:" + key + "\n\n", 0o600, "no key"},
		"no version":             {key, 0o600, "line 1"},
		"version 0":              {"v0:" + key, 0o600, "line 1"},
		"version 01":             {"v01:" + key, 0o600, "line 1"},
		"a short key":            {"v1:" + key + "\nv2:" + key[:20], 0o600, "line 2"},
		"no base64":              {"v1:!" + key, 0o600, "line 1"},
		"a version twice":        {"v1:" + key + "\nv1:" + key, 0o600, "twice"},
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := errors.Join(os.WriteFile(path, []byte(test.text), 0o600), os.Chmod(path, test.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyRing(path)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), key[:20]) {
			t.Errorf("%s: %v; want %q and nothing of the key", name, err, test.want)
		}
	}
	path := filepath.Join(t.TempDir(), "keys")
	if err := errors.Join(os.WriteFile(path, []byte(" v3:"+key+" \n# old\nv1:"+key+"\n"), 0o640), os.Chmod(path, 0o440)); err != nil {
		t.Fatal(err)
	}
	if k, err := LoadKeyRing(path); err != nil || k.Newest() != 3 {
		t.Errorf("a file for the group to read: %v", err)
	}
}

func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	k, err := LoadKeyRing(path)
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte("12345678901234567890")
	sealed := k.Seal(plain, "t", "totp", "ana")
	if got, err := k.Open(sealed, "t", "totp", "ana"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Open = %q, %v", got, err)
	}
	if bytes.Equal(sealed, k.Seal(plain, "t", "totp", "ana")) {
		t.Error("two seals are equal")
	}
	for name, owner := range map[string][]string{"another user": {"t", "totp", "bob"}, "another tenant": {"u", "totp", "ana"}, "another kind": {"t", "pin", "ana"},
		"other borders": {"tt", "otp", "ana"}, "nobody": {}, "more": {"t", "totp", "ana", ""}} {
		if _, err := k.Open(sealed, owner...); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v; want ErrSealed", name, err)
		}
	}
	for i := range sealed {
		spoiled := bytes.Clone(sealed)
		spoiled[i] ^= 1
		if _, err := k.Open(spoiled, "t", "totp", "ana"); err == nil {
			t.Errorf("byte %d does not matter", i)
		}
		if _, err := k.Open(sealed[:i], "t", "totp", "ana"); !errors.Is(err, ErrSealed) && !missing(err) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	// A key that is added while the ring is in use, and one of another file under the
	// same version.
	if _, err := AddKey(path); err != nil {
		t.Fatal(err)
	}
	newer, err := LoadKeyRing(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Open(newer.Seal(plain, "x"), "x"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("a key that was added meanwhile: %v", err)
	}
	if got, err := newer.Open(sealed, "t", "totp", "ana"); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("the older key: %v", err)
	}
	// The version is the one it was sealed with, even where two have the same key.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, root, _ := strings.Cut(string(text), "v1:")
	root, _, _ = strings.Cut(root, "\n")
	twice := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(twice, []byte("v1:"+root+"\nv2:"+root+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	same, err := LoadKeyRing(twice)
	if err != nil {
		t.Fatal(err)
	}
	moved := same.Seal(plain, "x")
	moved[versionSize-1] = 1
	if _, err := same.Open(moved, "x"); !errors.Is(err, ErrSealed) {
		t.Errorf("another version of the same key: %v; want ErrSealed", err)
	}
	other := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeyFile(other); err != nil {
		t.Fatal(err)
	}
	foreign, err := LoadKeyRing(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.Open(sealed, "t", "totp", "ana"); !errors.Is(err, ErrSealed) {
		t.Errorf("another key: %v; want ErrSealed", err)
	}
	if _, err := foreign.Open(newer.Seal(plain, "x"), "x"); !missing(err) {
		t.Errorf("a version that is not there: %v; want a MissingKeyError", err)
	}
}

func missing(err error) bool {
	_, ok := errors.AsType[*MissingKeyError](err)
	return ok
}

// TestWrongKeyFile: a server does not start with keys that do not open what is
// stored, and says so.
func TestWrongKeyFile(t *testing.T) {
	d := newDirectory(t)
	d.add("ana", false)
	other := filepath.Join(t.TempDir(), "keys")
	if err := CreateKeyFile(other); err != nil {
		t.Fatal(err)
	}
	foreign, err := LoadKeyRing(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Check(t.Context(), d.Store); err != nil {
		t.Errorf("in a store without secrets: %v", err)
	}
	if sealed, err := AnythingSealed(t.Context(), d.Store); sealed || err != nil {
		t.Errorf("AnythingSealed = %v, %v", sealed, err)
	}
	d.enrol("ana")
	if err := d.Keys.Check(t.Context(), d.Store); err != nil {
		t.Errorf("with the right key: %v", err)
	}
	if sealed, err := AnythingSealed(t.Context(), d.Store); !sealed || err != nil {
		t.Errorf("AnythingSealed = %v, %v", sealed, err)
	}
	if err := foreign.Check(t.Context(), d.Store); err == nil || !strings.Contains(err.Error(), "belongs to another store") {
		t.Errorf("with another key: %v", err)
	}
	// A process with the wrong keys that started before there were secrets.
	d.add("bob", false)
	p := d.enter("bob")
	wrongKeys := d.another(d.Store, foreign)
	if _, err := wrongKeys.Enrol(t.Context(), p, ""); err == nil || !strings.Contains(err.Error(), "belongs to another store") {
		t.Errorf("Enrol with another key: %v", err)
	}
	if _, err := AddKey(d.Keys.path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Keys.Rotate(t.Context(), d.Store, d.clock.now); err != nil {
		t.Fatal(err)
	}
	if err := foreign.Check(t.Context(), d.Store); err == nil || !strings.Contains(err.Error(), "no key v2") {
		t.Errorf("without the version: %v", err)
	}
}

// TestRotate: secrets are sealed anew while people sign in, an interruption does no
// harm, and then nothing needs the old key.
func TestRotate(t *testing.T) {
	d := newDirectory(t)
	const users = 30
	var devices [users]*device
	name := func(n int) string { return "user" + string(rune('a'+n/10)) + string(rune('0'+n%10)) }
	for n := range users {
		d.add(name(n), false)
		devices[n], _ = d.enrol(name(n))
	}
	d.add("pending", false)
	p := d.enter("pending")
	pending, err := d.Enrol(t.Context(), p, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddKey(d.Keys.path); err != nil {
		t.Fatal(err)
	}
	d.clock.advance(time.Minute)
	// One that is interrupted after a few writes.
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := &failing{Store: d.Store, after: 5, fail: cancel}
	n, err := d.Keys.Rotate(ctx, interrupted, d.clock.now)
	if err == nil || n == 0 || n >= users {
		t.Fatalf("an interrupted Rotate = %d, %v", n, err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for n := range users {
			if res, err := d.give(name(n), goodPassword, devices[n].code()); err != nil || res.Level != MFA {
				t.Errorf("SignIn meanwhile: %v", err)
			}
		}
	})
	rest, err := d.Keys.Rotate(t.Context(), d.Store, d.clock.now)
	wait.Wait()
	if err != nil || n+rest != users+1 {
		t.Errorf("Rotate = %d, %v; want the remaining %d", rest, err, users+1-n)
	}
	if again, err := d.Keys.Rotate(t.Context(), d.Store, d.clock.now); err != nil || again != 0 {
		t.Errorf("Rotate again = %d, %v", again, err)
	}
	// Without the old key.
	var kept []string
	for line := range strings.Lines(readFile(t, d.Keys.path)) {
		if !strings.HasPrefix(line, "v1:") {
			kept = append(kept, line)
		}
	}
	if err := os.WriteFile(d.Keys.path, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeyRing(d.Keys.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Check(t.Context(), d.Store); err != nil {
		t.Error(err)
	}
	d.Authenticator = d.another(d.Store, keys)
	d.clock.advance(time.Minute)
	for n := range users {
		if res, err := d.give(name(n), goodPassword, devices[n].code()); err != nil || res.Level != MFA {
			t.Errorf("SignIn without the old key: %v", err)
		}
	}
	dev := &device{d: d, secret: pending.Secret.Reveal()}
	if _, err := d.ConfirmEnrolment(t.Context(), p, Secret(dev.code())); err != nil {
		t.Errorf("an enrolment that was under way: %v", err)
	}
}

// failing is a store that fails after some writes.
type failing struct {
	storage.Store
	after int
	fail  func()
}

func (s *failing) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	if s.after--; s.after == 0 {
		s.fail()
	}
	return s.Store.Write(ctx, tenant, fn)
}

// TestKeysAddedAtOnce: none is lost, or what a server has sealed with it in between would be.
func TestKeysAddedAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "roster.keys")
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	const adders = 16
	versions := make([]int, adders)
	var g errgroup.Group
	for i := range versions {
		g.Go(func() (err error) {
			versions[i], err = AddKey(path)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(versions)
	if len(slices.Compact(versions)) != adders {
		t.Errorf("versions %v, want each once", versions)
	}
	if k, err := LoadKeyRing(path); err != nil || k.Newest() != adders+1 {
		t.Errorf("afterwards the newest version is %d, %v; want %d", k.Newest(), err, adders+1)
	}
}
