package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestAlerts plays the alert rules out with the promtool that ROSTER_TEST_PROMTOOL
// names. Without one it still sees to it that each alert has a case in which it comes and
// one in which it stays away.
func TestAlerts(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	decodeYAML(t, "alerts.yml", &rules)
	var played struct {
		Tests []struct {
			Name  string
			Exprs []struct {
				Expr string
				Want []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	decodeYAML(t, "alerts_test.yml", &played)
	comes, stays := map[string]bool{}, map[string]bool{}
	for _, test := range played.Tests {
		alert, _, _ := strings.Cut(test.Name, " ")
		for _, e := range test.Exprs {
			if e.Expr != `ALERTS{alertname="`+alert+`",alertstate="firing"}` {
				t.Errorf("%s: it asks for %s", test.Name, e.Expr)
			}
			if len(e.Want) > 0 {
				comes[alert] = true
			} else {
				stays[alert] = true
			}
		}
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if !comes[r.Alert] || !stays[r.Alert] {
				t.Errorf("%s: it is played that it comes: %v, that it stays away: %v", r.Alert, comes[r.Alert], stays[r.Alert])
			}
		}
	}

	promtool := os.Getenv("ROSTER_TEST_PROMTOOL")
	if promtool == "" {
		t.Skip("NOT RUN: the alerts played out; ROSTER_TEST_PROMTOOL names no promtool, as make alerts does")
	}
	for _, args := range [][]string{{"check", "rules", deployDir + "/alerts.yml"}, {"test", "rules", deployDir + "/alerts_test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
