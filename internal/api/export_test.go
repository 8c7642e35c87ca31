package api_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/internal/hrfile"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

const exportMapping = `match: externalId
delimiter: ";"
attributes:
  - {column: Number, to: externalId}
  - {column: Login, to: userName}
  - {column: Shown, to: displayName}
  - {column: Login, to: 'emails[type eq "work"].value'}
  - {column: Tel, to: 'phoneNumbers[type eq "work"].value'}
  - {column: Began, to: nickName, date: 02.01.2006}
  - {column: name.last, to: name.familyName}
  - {column: Boss, to: manager}
  - {column: Works, to: active, true: ["ja"], false: ["nej"]}
  - {value: Employee, to: userType}
`

// exportFile is what exportMapping makes of people with what is hard on a file, in some order.
var exportFile = []string{
	"Number;Login;Shown;Tel;Began;name.last;Boss;Works",
	"1;ana@example.com;\"'=1+1;'-2\";'+46 8 1;24.12.2026;Ek;;ja",
	"2;bo@example.com;\"\"\"Bo\"\", å\";;;\"Lind\r\nof Lund\";1;nej",
	"3;cy@example.com;'t Hart;;;;3;ja",
	"''=4;di@example.com;;;;;1;ja",
}

// TestExportedFile writes people into a file by the mapping that they came with: an import finds
// nothing to change by it, and makes the same people on another server.
func TestExportedFile(t *testing.T) {
	shows(t, "A10")
	onStores(t, func(t *testing.T, w *world) {
		other := begin(t, testserver.Options{})
		bring := func(w *world, file string, jsonLines bool) hrfile.Result {
			mapping, client := importing(t, w, exportMapping)
			i := &hrfile.Importer{Client: client, Mapping: mapping, File: strings.NewReader(file), JSONLines: jsonLines}
			i.Reject = func(r hrfile.Reject) error { t.Errorf("rejected: %+v", r); return nil }
			result, err := i.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return result
		}
		export := func(w *world, jsonLines bool, filter string) (string, hrfile.Exported) {
			mapping, client := importing(t, w, exportMapping)
			var out bytes.Buffer
			e := &hrfile.Exporter{Client: client, Mapping: mapping, JSONLines: jsonLines, Filter: filter}
			n, err := e.Write(t.Context(), &out)
			if err != nil {
				t.Fatal(err)
			}
			return out.String(), n
		}
		const end = "\r\n"
		sorted := func(file string) []string {
			lines := strings.SplitAfter(strings.ReplaceAll(file, "Lind"+end, "Lind"), end)
			slices.Sort(lines[1:])
			return lines
		}
		want := sorted(strings.Join(exportFile, end) + end)

		if r := bring(w, strings.Join(exportFile, end), false); r.Created != 4 {
			t.Fatalf("the import: %+v", r)
		}
		file, n := export(w, false, "")
		if d := cmp.Diff(want, sorted(file)); d != "" || n != (hrfile.Exported{Users: 4}) {
			t.Errorf("exported %+v (-want +got):\n%s", n, d)
		}
		objects, _ := export(w, true, "")
		for _, again := range []hrfile.Result{bring(w, file, false), bring(w, objects, true)} {
			if again.Unchanged != 4 {
				t.Errorf("the import of what was exported: %+v", again)
			}
		}
		if r := bring(other, objects, true); r.Created != 4 {
			t.Errorf("the import into another server: %+v", r)
		}
		if moved, _ := export(other, false, ""); cmp.Diff(want, sorted(moved)) != "" {
			t.Errorf("from the other server (-want +got):\n%s", cmp.Diff(want, sorted(moved)))
		}
		if got, n := export(w, true, `active eq false`); n.Users != 1 ||
			got != `{"Number":"2","Login":"bo@example.com","Shown":"\"Bo\", å","name.last":"Lind\nof Lund","Boss":"1","Works":"nej"}`+"\n" {
			t.Errorf("of those who do not work, %+v: %s", n, got)
		}

		// Who is not from a file has no key, nor have those whom they manage a manager there.
		id := w.create(t, w.Token, "/Users", `{"schemas":[%q],"userName":"chief"}`, schemas.UserURI)
		w.create(t, w.Token, "/Users", `{"schemas":[%q,%q],"userName":"deputy","externalId":"9",%[2]q:{"manager":{"value":%q}}}`, schemas.UserURI, schemas.EnterpriseUserURI, id)
		if _, n := export(w, false, `userName eq "chief" or userName eq "deputy"`); n != (hrfile.Exported{Users: 2, NoKey: 1, NoManager: 1}) {
			t.Errorf("exported %+v", n)
		}
		mapping, client := importing(t, w, exportMapping)
		if _, err := (&hrfile.Exporter{Client: client, Mapping: mapping, Filter: "x"}).Write(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "invalidFilter") {
			t.Errorf("a filter that is none: %v", err)
		}
	})
}
