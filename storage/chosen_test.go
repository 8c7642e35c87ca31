package storage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/schemas"
)

func TestChooseIndexed(t *testing.T) {
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	many, paths := []string(nil), []string{"title", "nickName", "userType", "preferredLanguage", "locale", "timezone", "profileUrl"}
	for _, part := range []string{"formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix"} {
		paths = append(paths, "name."+part)
	}
	for _, a := range []string{"employeeNumber", "costCenter", "organization", "division"} {
		paths = append(paths, enterprise+":"+a)
	}
	for _, p := range paths {
		many = append(many, "User:"+p)
	}
	for _, test := range []struct {
		given []string
		want  []string // paths
		wrong string   // a part of the error for each that is refused
	}{
		{nil, []string{}, ""},
		{[]string{"User:title"}, []string{"title"}, ""},
		{[]string{" User:TITLE", "User:name.familyName", "User:title"}, []string{"title", "name.familyName"}, ""},
		{[]string{"User:" + enterprise + ":employeeNumber"}, []string{enterprise + ":employeeNumber"}, ""},
		{[]string{"User:department"}, []string{enterprise + ":department"}, ""},
		{[]string{"RoleAssignment:startDate"}, []string{"startDate"}, ""},
		{many[:maxChosen], paths[:maxChosen], ""},
		{many, nil, "17 attributes"},
		{[]string{"title"}, nil, "of which resource type"},
		{[]string{""}, nil, "of which resource type"},
		{[]string{"Printer:title"}, nil, "no resource type"},
		{[]string{"GroupMembership:group.display"}, nil, "never stored"},
		{[]string{"User:shoeSize"}, nil, "no attribute of User"},
		{[]string{"User:password"}, nil, "no attribute of User"},
		{[]string{"User:"}, nil, "no attribute of User"},
		{[]string{"User:userName"}, nil, "without being listed"},
		{[]string{"User:externalId"}, nil, "without being listed"},
		{[]string{"User:emails.value"}, nil, "without being listed"},
		{[]string{"User:id"}, nil, "without being listed"},
		{[]string{"User:meta.created"}, nil, "without being listed"},
		{[]string{"User:groups.value"}, nil, "without being listed"},
		{[]string{"Group:members.value"}, nil, "without being listed"},
		{[]string{"User:phoneNumbers.value"}, nil, "several values"},
		{[]string{"User:name"}, nil, "name one of them, such as User:name.formatted"},
		{[]string{"User:active"}, nil, "true or false"},
		{[]string{"User:active", "User:title", "User:shoeSize"}, nil, "true or false|no attribute of User"},
	} {
		list, err := ChooseIndexed(set, test.given)
		if test.wrong != "" {
			for _, w := range strings.Split(test.wrong, "|") {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("ChooseIndexed(%q): got %v, want an error with %q", test.given, err, w)
				}
			}
			continue
		}
		got := []string{}
		for _, a := range list {
			got = append(got, a.Path)
		}
		if d := cmp.Diff(test.want, got); err != nil || d != "" || list == nil {
			t.Errorf("ChooseIndexed(%q): %v, nil %v (-want +got):\n%s", fmt.Sprint(test.given), err, list == nil, d)
		}
	}
}
