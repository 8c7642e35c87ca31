package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/hrfile"
	"github.com/roster-id/roster/schemas"
)

const hrMapping = `match: userName
attributes:
  - {column: login, to: userName}
  - {column: title, to: title}
  - {column: boss, to: manager}
absent: {do: disable, stopAbove: 50}
`

// TestImportedFile brings a file of an HR system in. A file can do no more than its client
// may: it disables and changes no administrator.
func TestImportedFile(t *testing.T) {
	shows(t, "A10")
	onStores(t, func(t *testing.T, w *world) {
		w.person(t, "root", auth.GlobalAdministrator)
		w.pushed(t, w.Token, "gone")
		mapping, client := importing(t, w, hrMapping)
		run := func(file string, dry, anyway bool) (hrfile.Result, []hrfile.Reject, error) {
			var rejects []hrfile.Reject
			i := &hrfile.Importer{Client: client, Mapping: mapping, File: strings.NewReader(file), DryRun: dry, DisableAnyway: anyway}
			i.Reject = func(r hrfile.Reject) error { rejects = append(rejects, r); return nil }
			result, err := i.Run(t.Context())
			return result, rejects, err
		}
		const file = "login,title,boss\nana,Lead,bo\nbo,Nurse,ana\nroot,Clerk,\nbad,,nobody\n"
		active := func() []string {
			r := w.Do(t, "GET", "/Users?filter=active%20ne%20false&sortBy=userName&attributes=userName", "", "Authorization", "Bearer "+w.Token)
			var page struct{ Resources []struct{ UserName string } }
			if err := json.Unmarshal([]byte(r.Body), &page); err != nil || r.Status != 200 {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			names := []string{}
			for _, u := range page.Resources {
				names = append(names, u.UserName)
			}
			return names
		}
		result, _, err := run(file, true, false)
		if want := (hrfile.Result{Rows: 4, Created: 2, Updated: 1, Disabled: 1, Rejected: 1, DryRun: true}); err != nil || result != want {
			t.Errorf("a dry run: %+v, %v; want %+v", result, err, want)
		}
		if d := cmp.Diff([]string{"gone", "root"}, active()); d != "" {
			t.Errorf("active after a dry run (-want +got):\n%s", d)
		}
		result, rejects, err := run(file, false, false)
		if want := (hrfile.Result{Rows: 4, Created: 2, Disabled: 1, Rejected: 2}); err != nil || result != want {
			t.Errorf("the import: %+v, %v; want %+v\n%+v", result, err, want, rejects)
		}
		if len(rejects) == 2 && (rejects[0] != hrfile.Reject{Line: 5, Column: "boss", Reason: "neither the file nor the server has the manager"} ||
			rejects[1].Line != 4 || !strings.HasPrefix(rejects[1].Reason, "403")) {
			t.Errorf("rejects: %+v", rejects)
		}
		if d := cmp.Diff([]string{"ana", "bo", "root"}, active()); d != "" {
			t.Errorf("active (-want +got):\n%s", d)
		}
		// Nobody but the administrator would be left.
		if result, _, err := run("login,title,boss\nnew,,\n", false, false); err == nil || result.Created != 0 {
			t.Errorf("a file without anybody: %+v, %v; want a stop", result, err)
		}
		_, rejects, err = run("login,title,boss\nnew,,\n", false, true)
		if err != nil || len(rejects) != 1 || rejects[0].Line != 0 {
			t.Errorf("a file without anybody, all the same: %+v, %v; want the administrator to stay", rejects, err)
		}
		if d := cmp.Diff([]string{"new", "root"}, active()); d != "" {
			t.Errorf("active at the end (-want +got):\n%s", d)
		}
	})
}

// importing reads a mapping for an import into the server.
func importing(t *testing.T, w *world, text string) (*hrfile.Mapping, *hrfile.Client) {
	t.Helper()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := hrfile.ParseMapping([]byte(text), set.Type("User"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := hrfile.NewClient(w.URL, w.Token)
	if err != nil {
		t.Fatal(err)
	}
	return mapping, client
}

// TestImportPreviewed: a dry run says what the import then does, and the import run once
// more finds nothing to do.
func TestImportPreviewed(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		mapping, client := importing(t, w, `match: userName
attributes:
  - {column: login, to: userName}
  - {column: boss, to: manager}
  - {column: works, to: active}
`)
		for _, file := range []string{
			// Whoever manages ana turns out later not to be imported.
			"login,boss,works\nana,bo,\ncy,ana,true\nbo,nobody,true\ndi,,false\ned,,\n",
			"login,boss,works\nana,eve,\ncy,ana,\neve,ana,true\ndi,,\n",
			"login,boss,works\nana,fay,true\ncy,fay,\nfay,gus,true\ngus,nobody,\ndi,,false\n",
		} {
			run := func(dry bool) (hrfile.Result, []hrfile.Reject) {
				var rejects []hrfile.Reject
				i := &hrfile.Importer{Client: client, Mapping: mapping, File: strings.NewReader(file), DryRun: dry, Preview: func(hrfile.Change) error { return nil }}
				i.Reject = func(r hrfile.Reject) error { rejects = append(rejects, r); return nil }
				result, err := i.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return result, rejects
			}
			told, toldRejects := run(true)
			told.DryRun = false
			result, rejects := run(false)
			if told != result || cmp.Diff(toldRejects, rejects) != "" {
				t.Errorf("%q: the dry run said\n%+v\n%+v\nand the import\n%+v\n%+v", file, told, toldRejects, result, rejects)
			}
			if again, _ := run(false); again.Created+again.Updated+again.Disabled > 0 {
				t.Errorf("%q: once more: %+v", file, again)
			}
		}
	})
}

// TestImportedElements: of an element without a value nothing is left, and the import run
// once more finds nothing to do.
func TestImportedElements(t *testing.T) {
	onStores(t, func(t *testing.T, w *world) {
		mapping, client := importing(t, w, `match: userName
attributes:
  - {column: login, to: userName}
  - {value: true, to: 'emails[type eq "work"].primary'}
  - {column: mail, to: 'emails[type eq "Work"].value'}
  - {column: text, to: 'emails[type eq "work"].display'}
  - {column: street, to: 'addresses[type eq "work"].streetAddress'}
`)
		for _, test := range []struct{ row, want string }{
			{"ana,,x,s", `null [{"streetAddress":"s","type":"work"}]`},
			{"ana,a@x.example,x,s", `[{"display":"x","primary":true,"type":"work","value":"a@x.example"}] [{"streetAddress":"s","type":"work"}]`},
			{"ana,b@x.example,,", `[{"primary":true,"type":"work","value":"b@x.example"}] null`},
			{"ana,,y,", `null null`},
		} {
			var last hrfile.Result
			for range 2 {
				i := &hrfile.Importer{Client: client, Mapping: mapping, File: strings.NewReader("login,mail,text,street\n" + test.row + "\n")}
				i.Reject = func(r hrfile.Reject) error { t.Errorf("%s: %+v", test.row, r); return nil }
				var err error
				if last, err = i.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if last.Unchanged != 1 {
				t.Errorf("%s: once more: %+v", test.row, last)
			}
			r := w.Do(t, "GET", "/Users?filter=userName%20eq%20%22ana%22", "")
			var page struct {
				Resources []struct{ Emails, Addresses any }
			}
			if err := json.Unmarshal([]byte(r.Body), &page); err != nil || len(page.Resources) != 1 {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			emails, err1 := json.Marshal(page.Resources[0].Emails)
			addresses, err2 := json.Marshal(page.Resources[0].Addresses)
			if got := strings.ReplaceAll(string(emails)+" "+string(addresses), `"Work"`, `"work"`); err1 != nil || err2 != nil || got != test.want {
				t.Errorf("%s: %s, want %s", test.row, got, test.want)
			}
		}
	})
}
