package patch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// npmVariable names the folder with node_modules, which `make conformance` fills.
const npmVariable = "ROSTER_TEST_NPM"

type opinionCase struct {
	Resource   map[string]any   `json:"resource"`
	Operations []map[string]any `json:"operations"`
}

// opinionCases are random users and what is to be done to them, the same ones each time.
func opinionCases(n int) []opinionCase {
	r := rand.New(rand.NewPCG(7644, 352))
	pick := func(from ...any) any { return from[r.IntN(len(from))] }
	email := func() map[string]any {
		e := map[string]any{"value": pick("a@x.example", "b@x.example", "c@y.example")}
		if r.IntN(4) > 0 {
			e["type"] = pick("work", "home", "other")
		}
		if r.IntN(4) == 0 {
			e["display"] = pick("A", "B")
		}
		return e
	}
	emails := func() []any {
		first, second := email(), email()
		if r.IntN(2) == 0 || first["value"] == second["value"] { // a stored resource has no value twice
			return []any{first}
		}
		return []any{first, second}
	}
	var out []opinionCase
	for range n {
		resource := map[string]any{"schemas": []any{user.Schema.ID}, "id": "2819c223", "userName": "ana"}
		if r.IntN(2) == 0 {
			resource["title"] = pick("Mate", "Pilot")
		}
		if r.IntN(2) == 0 {
			resource["name"] = map[string]any{"givenName": pick("Ana", "Bo"), "familyName": "Ek"}
		}
		if r.IntN(3) > 0 {
			resource["emails"] = emails()
		}
		var ops []map[string]any
		for range 1 + r.IntN(2) {
			op := map[string]any{"op": pick("add", "replace", "remove")}
			filter := fmt.Sprintf(`emails[%s]`, pick(`type eq "work"`, `value eq "a@x.example"`, `type eq "home" or value sw "b"`, `display pr`, `value co "@x" and not (type eq "work")`))
			switch r.IntN(9) {
			case 0:
				op["path"], op["value"] = "title", pick("Mate", "Cook")
			case 1:
				op["path"], op["value"] = "name.givenName", pick("Ana", "Cy")
			case 2:
				op["path"], op["value"] = "name", map[string]any{"middleName": pick("B", "C")}
			case 3, 4:
				op["path"], op["value"] = "emails", emails()
			case 5:
				op["path"], op["value"] = filter+".display", pick("X", "Y")
			case 6:
				op["path"], op["value"] = filter, map[string]any{"value": "n@x.example", "type": pick("work", "home")}
			case 7:
				op["value"] = map[string]any{"title": pick("Mate", "Cook"), "nickName": "An"}
			case 8:
				op["path"], op["value"] = enterprise+":department", pick("Deck", "Yard")
			}
			if op["op"] == "remove" {
				delete(op, "value")
			}
			ops = append(ops, op)
		}
		out = append(out, opinionCase{resource, ops})
	}
	return out
}

// TestScimPatch asks scim-patch, a package of npm, what becomes of 2,000 random users by
// random operations. Where it does not agree, the reason is known, and still true.
func TestScimPatch(t *testing.T) {
	modules := os.Getenv(npmVariable)
	if modules == "" {
		t.Skip("SKIPPED: scim-patch is not installed; run make conformance, or name the folder node_modules in " + npmVariable)
	}
	cases := opinionCases(2000)
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "testdata/scim-patch.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []struct {
		Resource json.RawMessage
		Error    string
	}
	if err := json.Unmarshal(text, &answers); err != nil || len(answers) != len(cases) {
		t.Fatalf("%d answers: %v", len(answers), err)
	}
	changed, refused, differences := 0, 0, map[string]int{}
	for i, c := range cases {
		before, _ := json.Marshal(c.Resource)
		ops, _ := json.Marshal(c.Operations)
		got, err := Apply(user, tree(t, user, string(before)), message(t, strings.Trim(string(ops), "[]"), strict), strict)
		theirs := answers[i]
		var diff string
		switch {
		case err != nil && theirs.Error != "":
		case err != nil:
			diff = "we refuse: " + say(t, err)
		case theirs.Error != "":
			diff = "they refuse: " + theirs.Error
		default:
			diff = cmp.Diff(tree(t, user, string(theirs.Resource)), got.Attributes)
		}
		switch {
		case diff == "" && err == nil:
			changed++
			continue
		case diff == "":
			refused++
			continue
		}
		reason := knownDifference(c, diff)
		differences[reason]++
		if reason == "" && differences[""] < 12 {
			t.Errorf("%s\n%s\n%s", before, ops, diff)
		}
	}
	t.Logf("of %d both make the same of %d and refuse %d; %v", len(cases), changed, refused, differences)
	for _, reason := range []string{addCreates, removeIgnores, addsTwice, replaceMerges} {
		if differences[reason] == 0 {
			t.Errorf("no longer true: %s", reason)
		}
	}
}

// Where scim-patch differs.
const (
	addCreates    = "an add on a filter that selects nothing makes a value there, on which §3.5.2.1 is silent"
	removeIgnores = "a remove on a filter that selects nothing succeeds there, on which §3.5.2.2 is silent"
	addsTwice     = "an add of a value that is there with the same type brings its other sub-attributes to it here (RFC 7643 §2.4) and makes a second one there"
	replaceMerges = "a replaced value keeps there what the new one does not have; §3.5.2.3 says it is replaced"
)

// knownDifference says why scim-patch does not agree, or "".
func knownDifference(c opinionCase, diff string) string {
	for i, op := range c.Operations {
		if strings.HasPrefix(diff, fmt.Sprintf("we refuse: noTarget: Operations[%d]: emails: no value", i)) {
			switch op["op"] {
			case "add":
				return addCreates
			case "remove":
				return removeIgnores
			}
		}
	}
	if strings.Contains(diff, "efuse: ") {
		return ""
	}
	for _, op := range c.Operations {
		switch path, _ := op["path"].(string); {
		case op["op"] == "replace" && strings.HasSuffix(path, "]"):
			return replaceMerges
		case op["op"] == "add" && path == "emails":
			return addsTwice
		}
	}
	return ""
}
