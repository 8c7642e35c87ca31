package scim_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// Of many who want to sign in by the same text at once, as a user name or as an address,
// one does.
func TestSignInNamesAtOnce(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			for round := range 5 {
				text := fmt.Sprintf("kim%d@x.example", round)
				// Some are there before, and change at the same time.
				byEmail := `"` + schemas.RosterUserURI + `":{"signInBy":"email"}`
				w.create("plain", "User", fmt.Sprintf(`{"userName":"plain%d","emails":[{"value":"%s"}]}`, round, text))
				w.create("far", "User", fmt.Sprintf(`{"userName":"far%d",%s}`, round, byEmail))
				do := []func() error{
					func() error {
						return w.patch(operator(), "User", w.ids["plain"], `{"op":"add","path":"signInBy","value":"email"}`)
					},
					func() error {
						return w.patch(operator(), "User", w.ids["far"], `{"op":"add","path":"emails","value":[{"value":"`+text+`"}]}`)
					},
					func() error {
						return w.patch(operator(), "User", w.ids["far"], `{"op":"replace","path":"userName","value":"`+text+`"}`)
					},
				}[:2+round%2]
				for i := range 16 {
					do = append(do, func() error {
						body := fmt.Sprintf(`{"userName":"%s"}`, text)
						if i%2 == 0 {
							body = fmt.Sprintf(`{"userName":"u%d-%d","emails":[{"value":"%s"}],%s}`, round, i, text, byEmail)
						}
						_, err := w.post(operator(), "User", body)
						return err
					})
				}
				errs := make([]error, len(do))
				var wg sync.WaitGroup
				for i, f := range do {
					wg.Go(func() { errs[i] = f() })
				}
				wg.Wait()
				var won []int
				for i, err := range errs {
					switch {
					case err == nil:
						won = append(won, i)
					case status(err) != 409:
						t.Error(err)
					}
				}
				// The second and third are of one user, who may have the text twice.
				if len(won) != 1 && fmt.Sprint(won) != "[1 2]" {
					t.Errorf("round %d: %v have the name %s", round, won, text)
				}
			}
		})
	}
}

// What an administrator signs in by is nothing that a client, or whoever may not manage
// the administrator, takes away or takes over.
func TestSignInNamesOfAdministrators(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			set := func(value string) string { return `{"op":"replace","path":"signInBy","value":"` + value + `"}` }
			if err := w.patch(w.session("gus"), "User", w.ids["gia"], set("email")); err != nil {
				t.Fatal(err)
			}
			for who, by := range map[string]auth.Principal{"hr": hr(t), "uma": w.session("uma")} {
				if err := w.patch(by, "User", w.ids["gia"], set("userName")); status(err) != 403 {
					t.Errorf("%s may change what gia signs in by: %v", who, err)
				}
				if _, err := w.post(by, "User", `{"userName":"GIA@x.example"}`); status(err) != 409 {
					t.Errorf("%s may call somebody what gia signs in by: %v", who, err)
				}
				if err := w.patch(by, "User", w.ids["bob"], `{"op":"replace","path":"userName","value":"gia@x.example"}`); status(err) != 409 {
					t.Errorf("%s may rename somebody to what gia signs in by: %v", who, err)
				}
			}
		})
	}
}
