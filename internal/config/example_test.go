package config_test

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/roster-id/roster/internal/config"
)

// A command adds the flags, parses them, and loads the rest.
func ExampleLoad() {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse([]string{"--listen", "0.0.0.0:80"}); err != nil {
		fmt.Println(err)
		return
	}
	environment := map[string]string{"ROSTER_STORE": "mongodb://roster:secret@db/roster", "ROSTER_ALLOW_PLAINTEXT": "true"}
	c, err := config.Load(flags, func(name string) string { return environment[name] })
	fmt.Println(c.Listen, c.Store, err)
	// Output:
	// 0.0.0.0:80 mongodb://[redacted]@db/roster <nil>
}
