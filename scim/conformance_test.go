package scim_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/roster-id/roster/scim/scimtest"
	"github.com/roster-id/roster/scim/scimtest/testserver"
)

const conformancePage = "../docs/conformance.md"

var update = flag.Bool("update", false, "write docs/conformance.md from the scripts that passed")

// requirements are the statements of the RFCs and what shows them.
type requirements struct {
	sections []section
	shownBy  map[string][]string // scripts by the id of a statement
	scripts  []string            // all there are
}

type section struct {
	Section    string
	Statements []statement
}

type statement struct {
	ID            string
	Level         string
	Text          string
	Tests         []string
	NotApplicable string `yaml:"notApplicable"`
	NotKept       string `yaml:"notKept"` // what is done in its place, and why
}

// tag is the list of statements in a title: "[7644-3.3-1 7644-3.3-2]".
var tag = regexp.MustCompile(`\[(\d{4}-[^\]]*)\]`)

// tagLine is a comment with a list of statements, wherever it stands.
var tagLine = regexp.MustCompile(`(?m)^#.*\[\d{4}-`)

func loadRequirements(t *testing.T) *requirements {
	t.Helper()
	r := &requirements{shownBy: map[string][]string{}}
	text, err := os.ReadFile("testdata/requirements.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&r.sections); err != nil {
		t.Fatal(err)
	}
	fsys := os.DirFS("testdata")
	err = fs.WalkDir(fsys, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".txt") {
			return err
		}
		name := strings.TrimSuffix(path, ".txt")
		r.scripts = append(r.scripts, name)
		text, err := fs.ReadFile(fsys, path)
		if err != nil {
			return err
		}
		script, err := scimtest.Parse(path, text)
		if err != nil {
			return err
		}
		titled := 0
		for _, step := range script.Steps {
			titled += len(tag.FindAllString(step.Title, -1))
			for _, m := range tag.FindAllStringSubmatch(step.Title, -1) {
				for _, id := range strings.Fields(m[1]) {
					if !slices.Contains(r.shownBy[id], name) {
						r.shownBy[id] = append(r.shownBy[id], name)
					}
				}
			}
		}
		if n := len(tagLine.FindAll(text, -1)); n != titled {
			t.Errorf("%s: of %d lists of statements %d stand above a request", path, n, titled)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *requirements) each(f func(statement)) {
	for _, s := range r.sections {
		for _, st := range s.Statements {
			f(st)
		}
	}
}

// TestRequirements: every statement has what shows it, or a reason why it is not
// applicable or not kept, and nothing is said to show a statement that is not in the list.
func TestRequirements(t *testing.T) {
	t.Parallel()
	r := loadRequirements(t)
	known := map[string]bool{}
	r.each(func(s statement) {
		shown, excused := len(r.shownBy[s.ID])+len(s.Tests) > 0, s.NotApplicable != "" || s.NotKept != ""
		switch {
		case known[s.ID]:
			t.Errorf("%s is there twice", s.ID)
		case s.Text == "" || !slices.Contains([]string{"MUST", "SHOULD", "MAY"}, s.Level):
			t.Errorf("%s: level %q, text %q", s.ID, s.Level, s.Text)
		case shown && excused || s.NotApplicable != "" && s.NotKept != "":
			t.Errorf("%s is two of not applicable, not kept and shown by %v %v", s.ID, r.shownBy[s.ID], s.Tests)
		case !shown && !excused:
			t.Errorf("%s: nothing shows that %s", s.ID, s.Text)
		}
		known[s.ID] = true
		for _, name := range s.Tests {
			if !isTest(t, name) {
				t.Errorf("%s: there is no test %s", s.ID, name)
			}
		}
	})
	for id, scripts := range r.shownBy {
		if !known[id] {
			t.Errorf("%v show %s, which is no statement", scripts, id)
		}
	}
}

// packages are the folders in which tests of statements are.
var packages = map[string]string{"scim": ".", "schemas": "../schemas", "server": "../internal/server", "api": "../internal/api", "auth": "../auth", "config": "../internal/config"}

var testsIn = map[string]map[string]bool{}

// isTest reports whether there is a test function of that name, such as scim.TestScripts.
func isTest(t *testing.T, name string) bool {
	t.Helper()
	folder, function, _ := strings.Cut(name, ".")
	if testsIn[folder] == nil {
		testsIn[folder] = map[string]bool{}
		files, err := filepath.Glob(filepath.Join(packages[folder], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
					testsIn[folder][f.Name.Name] = true
				}
			}
		}
	}
	return testsIn[folder][function]
}

// played is which scripts ran in a test, and whether they passed.
type played struct {
	mu     sync.Mutex
	passed map[string]bool
}

// watch notes the outcome of the script that t plays.
func (p *played) watch(t *testing.T) {
	_, name, _ := strings.Cut(t.Name(), "/")
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.passed[name] = !t.Failed() && !t.Skipped()
	})
}

// check holds docs/conformance.md against what was played, if that was all.
func (p *played) check(t *testing.T) {
	t.Helper()
	r := loadRequirements(t)
	for _, name := range r.scripts {
		if passed, ran := p.passed[name]; !ran {
			return // some scripts were chosen
		} else if !passed {
			t.Errorf("the script %s has failed, and what it shows is not shown: %s", name, conformancePage)
		}
	}
	if t.Failed() {
		return
	}
	want := r.page()
	if *update {
		if err := os.WriteFile(conformancePage, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(conformancePage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the list and the scripts say (go test ./scim -run 'TestScripts$' -update):\n%s", conformancePage, diff)
	}
}

const conformanceHead = `# Conformance

This page lists the requirements of RFC 7643, RFC 7644 (errata included) and RFC 9865 for a service provider, and those of RFC 7240 and RFC 9967 for
asynchronous requests, statement by statement, with the scripts and tests that show that Roster meets them. ` + "`go test ./scim -run 'TestScripts$' -update`" + ` generates it from
[the list](../scim/testdata/requirements.yaml) and the scripts that passed, and the tests check it against what ran. Scripts run
on both stores; tests written in Go are named with their package.

Scripts in clients/strict and TestBulkStrict show what holds for clients with the strict profile. [compatibility.md](compatibility.md) lists what is
tolerated from other clients.

Other implementations serve as a second opinion: ` + "`make conformance`" + ` runs the suite scim2-tester against the server on both stores, and compares the server with
scimmy, another server, and PATCH with scim-patch. Each difference is in a table with the section of the RFC that it is about:
[scim/scimmy_test.go](../scim/scimmy_test.go), [scim/patch/opinion_test.go](../scim/patch/opinion_test.go). scim2-tester runs as a client with the scopes for users and groups only: for
roles, memberships, invitations and entitlements it invents values that a server has to refuse, and it
refuses a ServiceProviderConfig with attributes that it does not know, which are shown only to clients with the scopes for them.

`

// page is docs/conformance.md.
func (r *requirements) page() []byte {
	var b bytes.Buffer
	b.WriteString(conformanceHead)
	levels := []string{"MUST", "SHOULD", "MAY"}
	b.WriteString("| | statements | shown | not applicable | not kept |\n|---|---|---|---|---|\n")
	for _, level := range levels {
		all, not, unkept := 0, 0, 0
		r.each(func(s statement) {
			if s.Level == level {
				all++
				if s.NotApplicable != "" {
					not++
				}
				if s.NotKept != "" {
					unkept++
				}
			}
		})
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", level, all, all-not-unkept, not, unkept)
	}
	for _, level := range levels {
		fmt.Fprintf(&b, "\n## %s\n", level)
		for _, sec := range r.sections {
			first := true
			for _, s := range sec.Statements {
				if s.Level != level {
					continue
				}
				if first {
					fmt.Fprintf(&b, "\n### %s\n\n| | statement | shown by |\n|---|---|---|\n", sec.Section)
					first = false
				}
				fmt.Fprintf(&b, "| %s | %s | %s |\n", s.ID, s.Text, r.shows(s))
			}
		}
	}
	return b.Bytes()
}

// shows says what shows a statement.
func (r *requirements) shows(s statement) string {
	if s.NotApplicable != "" {
		return "not applicable: " + s.NotApplicable
	}
	if s.NotKept != "" {
		return "**not kept**: " + s.NotKept
	}
	var by []string
	for _, name := range r.shownBy[s.ID] {
		by = append(by, fmt.Sprintf("[%s](../scim/testdata/%s.txt)", name, name))
	}
	for _, name := range s.Tests {
		by = append(by, "`"+name+"`")
	}
	return strings.Join(by, ", ")
}

// publishedAttribute is an attribute in /Schemas.
type publishedAttribute struct {
	Name            string
	Type            string
	MultiValued     *bool
	Required        *bool
	CaseExact       *bool
	Mutability      string
	Returned        string
	Uniqueness      string
	ReferenceTypes  []string
	CanonicalValues []any
	SubAttributes   []publishedAttribute
}

var attributeName = regexp.MustCompile(`^[$A-Za-z][-$_0-9A-Za-z]*$`)

// TestPublishedSchemas: what /Schemas says has the form of RFC 7643 §7.
func TestPublishedSchemas(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{})
	r := s.Do(t, "GET", "/Schemas", "")
	var list struct {
		Resources []struct {
			ID, Name   string
			Attributes []publishedAttribute
		}
	}
	if err := json.Unmarshal([]byte(r.Body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Resources) < 3 {
		t.Fatalf("%d schemas", len(list.Resources))
	}
	for _, schema := range list.Resources {
		if schema.ID == "" || schema.Name == "" || len(schema.Attributes) == 0 {
			t.Errorf("schema %q: name %q, %d attributes", schema.ID, schema.Name, len(schema.Attributes))
		}
		for _, a := range schema.Attributes {
			for _, problem := range a.problems("", false) {
				t.Errorf("%s: %s", schema.ID, problem)
			}
		}
	}
}

// problems is what the attribute has that RFC 7643 §7 does not allow.
func (a publishedAttribute) problems(parent string, isSub bool) (found []string) {
	path := parent + a.Name
	bad := func(format string, args ...any) { found = append(found, path+": "+fmt.Sprintf(format, args...)) }
	oneOf := func(what, value string, vocabulary ...string) {
		if !slices.Contains(vocabulary, value) {
			bad("%s is %q", what, value)
		}
	}
	if !attributeName.MatchString(a.Name) {
		bad("is no name of an attribute")
	}
	oneOf("type", a.Type, "string", "boolean", "decimal", "integer", "dateTime", "reference", "binary", "complex")
	oneOf("mutability", a.Mutability, "readOnly", "readWrite", "immutable", "writeOnly")
	oneOf("returned", a.Returned, "always", "never", "default", "request")
	if a.MultiValued == nil || a.Required == nil {
		bad("multiValued or required is not said")
	}
	if a.Type == "string" || a.Type == "reference" {
		oneOf("uniqueness", a.Uniqueness, "none", "server", "global")
		if a.CaseExact == nil {
			bad("caseExact is not said")
		}
	}
	if (a.Type == "binary" || a.Type == "reference") && (a.CaseExact == nil || !*a.CaseExact) {
		bad("is not caseExact")
	}
	if (a.Type == "reference") != (len(a.ReferenceTypes) > 0) {
		bad("is a %s with referenceTypes %v", a.Type, a.ReferenceTypes)
	}
	if (a.Type == "complex") != (len(a.SubAttributes) > 0) {
		bad("is a %s with %d sub-attributes", a.Type, len(a.SubAttributes))
	}
	if a.Type == "complex" && isSub {
		bad("is complex inside of a complex one")
	}
	if a.Mutability == "writeOnly" && a.Returned != "never" {
		bad("is writeOnly and returned %s", a.Returned)
	}
	for _, sub := range a.SubAttributes {
		found = append(found, sub.problems(path+".", true)...)
	}
	return found
}
