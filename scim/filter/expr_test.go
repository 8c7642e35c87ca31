package filter

import "testing"

func TestNamed(t *testing.T) {
	for text, want := range map[string]any{
		`members.value eq "a"`:                               "a",
		`members[type eq "User" and value eq "a"]`:           "a",
		`displayName pr and members.value eq "a"`:            "a",
		`members.value eq "a" and members.value eq "b"`:      "a",
		`members.value ne "a"`:                               nil,
		`members.type eq "User"`:                             nil,
		`members.value eq "a" or displayName pr`:             nil,
		`not (members.value eq "a")`:                         nil,
		`displayName eq "a" and not (members[value eq "a"])`: nil,
	} {
		e, err := Parse(text, group, DefaultLimits)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got, ok := Named(e, "members.value"); got != want || ok != (want != nil) {
			t.Errorf("%s names %v, %v; want %v", text, got, ok, want)
		}
	}
	if got, ok := Named(nil, "members.value"); ok {
		t.Errorf("no filter names %v", got)
	}
}
