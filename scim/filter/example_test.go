package filter_test

import (
	"fmt"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
)

func ExampleParse() {
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	user := set.Type("User")

	e, err := filter.Parse(`active eq "True" and EMAILS[type eq "work"].value ew "@example.com"`, user, filter.DefaultLimits)
	if err != nil {
		panic(err)
	}
	fmt.Println(e)
	fmt.Println(e.Match(map[string]any{
		"active": true,
		"emails": []any{map[string]any{"type": "work", "value": "Ana@Example.com"}},
	}))

	_, err = filter.Parse(`title pr and usrName eq "ana"`, user, filter.DefaultLimits)
	fmt.Println(err)
	// Output:
	// active eq true and emails[type eq "work" and value ew "@example.com"]
	// true
	// at offset 13: unknown attribute "usrName"
}

func ExampleParsePath() {
	set, err := schemas.Load()
	if err != nil {
		panic(err)
	}
	p, err := filter.ParsePath(`emails[type eq "work"].Value`, set.Type("User"), filter.DefaultLimits)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Attr, "|", p.Filter, "|", p.Sub)
	// Output:
	// emails | type eq "work" | emails.value
}
