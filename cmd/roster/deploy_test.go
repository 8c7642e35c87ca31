package main

import (
	"encoding/json"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/roster-id/roster/internal/config"
)

// Nobody runs what is in deploy/ when the suite runs. These tests hold it against
// the program: commands, settings, ports, paths and metrics that it names have to
// be there.
const deployDir = "../../deploy"

func deployFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deployDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func decodeYAML(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(deployFile(t, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// drain is how long a server that stops waits for requests under way.
const drain = 30 * time.Second

// TestDeployFiles: all of it parses, and every setting named anywhere exists.
func TestDeployFiles(t *testing.T) {
	t.Parallel()
	variables := map[string]bool{}
	for _, s := range config.Settings() {
		variables[s.Env] = true
	}
	variable := regexp.MustCompile(`\bROSTER_[A-Z_]+`)
	err := filepath.WalkDir(deployDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, v := range variable.FindAllString(string(b), -1) {
			if !variables[v] {
				t.Errorf("%s: %s is no setting", path, v)
			}
		}
		var v any
		switch filepath.Ext(path) {
		case ".yaml", ".yml":
			err = yaml.Unmarshal(b, &v)
		case ".json":
			err = json.Unmarshal(b, &v)
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deployed is what somebody who runs Roster has to agree with.
type deployed struct {
	command string // "serve"
	config  config.Config
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Error(err)
	}
	return port
}

// command finds out what the program makes of arguments and environment.
func command(t *testing.T, args []string, env map[string]string) deployed {
	t.Helper()
	cmd, rest, err := newRootCommand().Find(args)
	if err != nil || !cmd.HasParent() {
		t.Errorf("roster %q: no such command", args)
		return deployed{}
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("roster %q: %v", args, err)
	}
	if len(cmd.Flags().Args()) > 0 {
		t.Errorf("roster %q: too many arguments", args)
	}
	d := deployed{command: cmd.Name()}
	if env["ROSTER_STORE"] == "" && env["ROSTER_CONFIG"] == "" {
		t.Errorf("roster %q: ROSTER_STORE is not set, and what is written elsewhere ends with the container", args)
	}
	if d.command == "serve" {
		if d.config, err = config.Load(cmd.Flags(), func(name string) string { return env[name] }); err != nil {
			t.Errorf("roster %q with %v: %v", args, env, err)
		}
	}
	return d
}

// pinned reports whether an image is named by its version.
func pinned(image string) bool {
	return regexp.MustCompile(`^[a-z0-9.-]+\.[a-z]+/[a-z0-9/_-]+:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$`).MatchString(image)
}

type composeFile struct {
	Services map[string]composeService
	Networks map[string]struct {
		IPAM struct {
			Config []struct{ Subnet netip.Prefix }
		}
	}
	Volumes map[string]any
	Secrets map[string]struct{ Environment string }
}

type composeService struct {
	Image           string
	Build           *struct{ Context, Dockerfile string }
	Command         []string
	Environment     map[string]string
	DependsOn       yaml.Node `yaml:"depends_on"`
	Healthcheck     map[string]any
	Networks        []string
	Volumes         []string
	Secrets         []composeSecret
	User            string
	ReadOnly        bool          `yaml:"read_only"`
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
}

// composeSecret is a secret by its name, or with more to say about it.
type composeSecret struct {
	Source, Target, UID, GID string
	Mode                     int
}

func (s *composeSecret) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		s.Source, s.Target = n.Value, n.Value
		return nil
	}
	type plain composeSecret
	return n.Decode((*plain)(s))
}

// needs are the services that a service waits for, and until when.
func (s composeService) needs(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	if s.DependsOn.Kind == yaml.SequenceNode {
		var list []string
		if err := s.DependsOn.Decode(&list); err != nil {
			t.Error(err)
		}
		for _, name := range list {
			all[name] = "service_started"
		}
	} else if s.DependsOn.Kind != 0 {
		var conditions map[string]struct{ Condition string }
		if err := s.DependsOn.Decode(&conditions); err != nil {
			t.Error(err)
		}
		for name, c := range conditions {
			all[name] = c.Condition
		}
	}
	return all
}

func (s composeService) isRoster() bool { return strings.HasPrefix(s.Image, "roster:") }

func TestCompose(t *testing.T) {
	t.Parallel()
	var c composeFile
	decodeYAML(t, "compose.yaml", &c)
	server := serveStore(t, t.TempDir()+"/roster.db")

	running := map[string]deployed{}
	for name, s := range c.Services {
		for other, until := range s.needs(t) {
			o, ok := c.Services[other]
			switch {
			case !ok:
				t.Errorf("%s depends on %s, which is not there", name, other)
			case until == "service_healthy" && o.Healthcheck == nil:
				t.Errorf("%s waits for %s to be healthy, which has no health check", name, other)
			case !slices.Contains([]string{"service_started", "service_healthy", "service_completed_successfully"}, until):
				t.Errorf("%s depends on %s: there is no condition %q", name, other, until)
			}
		}
		for _, n := range s.Networks {
			if _, ok := c.Networks[n]; !ok {
				t.Errorf("%s: no network %s", name, n)
			}
		}
		if len(s.Networks) == 0 {
			t.Errorf("%s is in the default network, where everybody is", name)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(filepath.Join(deployDir, source)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s: no volume %s", name, source)
			}
		}
		for _, secret := range s.Secrets {
			if c.Secrets[secret.Source].Environment == "" {
				t.Errorf("%s: no secret %s that comes from the environment", name, secret.Source)
			}
			if s.ReadOnly { // "`file` is the sole supported option"
				t.Errorf("%s: Compose has nowhere to write the secret %s in a container that is read-only", name, secret.Source)
			}
			if s.isRoster() && (secret.Mode&0o027 != 0 || secret.Mode&0o400 == 0 || secret.UID+":"+secret.GID != s.User) {
				t.Errorf("%s: the secret %s is %+v; Roster runs as %s and takes no file that others may read", name, secret.Source, secret, s.User)
			}
		}
		for variable, value := range s.Environment {
			if path, ok := strings.CutPrefix(value, "/run/secrets/"); ok && !slices.ContainsFunc(s.Secrets, func(c composeSecret) bool { return c.Target == path }) {
				t.Errorf("%s: %s names a secret it does not get", name, variable)
			} else if !ok && strings.Contains(variable, "PASSWORD") {
				t.Errorf("%s: %s should come from a secret", name, variable)
			}
		}
		if !s.isRoster() {
			if !pinned(s.Image) {
				t.Errorf("%s: the image %s is not named by its version", name, s.Image)
			}
			continue
		}
		if s.Build == nil || filepath.Join(deployDir, s.Build.Context, s.Build.Dockerfile) != filepath.Join(deployDir, "Containerfile") {
			t.Errorf("%s is not built from Containerfile: %+v", name, s.Build)
		}
		if strings.HasPrefix(s.User, "0") || s.User == "" {
			t.Errorf("%s runs as user %q", name, s.User)
		}
		d := command(t, s.Command, s.Environment)
		running[name] = d
		if s.StopGracePeriod < d.config.ShutdownDelay+drain {
			t.Errorf("%s is killed after %s, before it has stopped", name, s.StopGracePeriod)
		}
		store := s.Environment["ROSTER_STORE"]
		if !regexp.MustCompile(`:\$\{[A-Z_]+:\?[^}]+\}@`).MatchString(store) {
			t.Errorf("%s: the password of the store should have to be given: %s", name, store)
		}
		hosts := regexp.MustCompile(`@([a-z0-9,]+)/`).FindStringSubmatch(store)
		if hosts == nil {
			t.Fatalf("%s: no hosts in %s", name, store)
		}
		for host := range strings.SplitSeq(hosts[1], ",") {
			c.reaches(t, name, host)
			if set := regexp.MustCompile(`replicaSet=(\w+)`).FindStringSubmatch(store); set == nil || !strings.Contains(strings.Join(c.Services[host].Command, " "), "--replSet "+set[1]+" ") {
				t.Errorf("%s: %s is not in the replica set of %s", name, host, store)
			}
		}
	}
	if len(running) != 2 {
		t.Errorf("%d services run Roster, want 2", len(running))
	}

	t.Run("proxy", func(t *testing.T) {
		text := regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(deployFile(t, "Caddyfile"), "")
		setting := func(name string) string {
			m := regexp.MustCompile(`(?m)^\s*` + name + ` ([^{\n]+?) *\{?$`).FindStringSubmatch(text)
			if m == nil {
				t.Fatalf("the Caddyfile has no %s", name)
			}
			return m[1]
		}
		upstreams := strings.Fields(setting("reverse_proxy"))
		if len(upstreams) != len(running) {
			t.Errorf("the proxy knows %q, there are %d", upstreams, len(running))
		}
		for _, address := range upstreams {
			host, port, _ := net.SplitHostPort(address)
			d := running[host]
			c.reaches(t, "caddy", host)
			if port != portOf(t, d.config.Listen) || setting("health_port") != portOf(t, d.config.OpsListen) {
				t.Errorf("the proxy asks %s and port %s; it listens on %s and %s", address, setting("health_port"), d.config.Listen, d.config.OpsListen)
			}
			subnet := c.Networks["front"].IPAM.Config[0].Subnet
			if !slices.Equal(d.config.TrustedProxies, []netip.Prefix{subnet}) {
				t.Errorf("%s trusts %v; the proxy is in %v", host, d.config.TrustedProxies, subnet)
			}
		}
		answers(t, server, setting("health_uri"))
	})

	t.Run("prometheus", func(t *testing.T) {
		p := prometheusConfig(t)
		for _, s := range p.Scrape {
			for _, static := range s.Static {
				if len(static.Targets) != len(running) {
					t.Errorf("Prometheus asks %q, there are %d", static.Targets, len(running))
				}
				for _, target := range static.Targets {
					host, port, _ := net.SplitHostPort(target)
					c.reaches(t, "prometheus", host)
					if port != portOf(t, running[host].config.OpsListen) {
						t.Errorf("Prometheus asks %s; it listens on %s", target, running[host].config.OpsListen)
					}
				}
			}
		}
		mounted := strings.Join(c.Services["prometheus"].Volumes, "\n")
		for _, file := range append(p.Rules, "/etc/prometheus/prometheus.yml") {
			if !strings.Contains(mounted, "./"+filepath.Base(file)+":"+file+":ro") {
				t.Errorf("%s is not mounted", file)
			}
		}
	})

	t.Run("grafana", func(t *testing.T) {
		var sources struct{ Datasources []struct{ UID, URL string } }
		decodeYAML(t, "grafana/datasource.yaml", &sources)
		for _, s := range sources.Datasources {
			c.reaches(t, "grafana", strings.TrimSuffix(strings.TrimPrefix(s.URL, "http://"), ":9090"))
		}
		var provided struct {
			Providers []struct{ Options struct{ Path string } }
		}
		decodeYAML(t, "grafana/dashboards.yaml", &provided)
		for _, p := range provided.Providers {
			if !slices.Contains(c.Services["grafana"].Volumes, "./grafana/roster.json:"+p.Options.Path+"/roster.json:ro") {
				t.Errorf("no dashboard is mounted in %s", p.Options.Path)
			}
		}
		if uid := dashboard(t).variable("datasource").Current.Value; uid != sources.Datasources[0].UID {
			t.Errorf("the dashboard reads %v, the data source is %v", uid, sources.Datasources[0].UID)
		}
	})
}

// reaches: both are services, and they share a network.
func (c composeFile) reaches(t *testing.T, from, to string) {
	t.Helper()
	a, b := c.Services[from], c.Services[to]
	if !slices.ContainsFunc(a.Networks, func(n string) bool { return slices.Contains(b.Networks, n) }) {
		t.Errorf("%s does not reach %s", from, to)
	}
}

// answers: the operators' listener has something at a path.
func answers(t *testing.T, s *process, path string) {
	t.Helper()
	if err := s.expect(http.StatusOK, "GET", s.ops+path, "", ""); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

// The parts of Kubernetes' objects that refer to each other.
type kubeObject struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   kubeMetadata
	Spec       struct {
		Selector    yaml.Node    // labels, or matchLabels with them
		PodSelector kubeSelector `yaml:"podSelector"`
		Template    kubePod
		Ports       []struct {
			TargetPort string `yaml:"targetPort"`
		}
		Ingress, Egress []struct {
			Ports []struct{ Port string }
		}
		Replicas int
	}
}

type kubeMetadata struct {
	Name                string
	Labels, Annotations map[string]string
}

type kubeSelector struct {
	MatchLabels map[string]string `yaml:"matchLabels"`
}

type kubePod struct {
	Metadata kubeMetadata
	Spec     struct {
		Grace    int   `yaml:"terminationGracePeriodSeconds"`
		Links    *bool `yaml:"enableServiceLinks"`
		Security struct {
			NonRoot bool `yaml:"runAsNonRoot"`
		} `yaml:"securityContext"`
		Spread []struct {
			LabelSelector kubeSelector `yaml:"labelSelector"`
		} `yaml:"topologySpreadConstraints"`
		Containers []kubeContainer
	}
}

type kubeContainer struct {
	Name, Image string
	Args        []string
	EnvFrom     []struct {
		ConfigMapRef kubeMetadata `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	Env []struct {
		Name, Value string
		ValueFrom   struct {
			SecretKeyRef struct{ Name, Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	Ports     []kubePort
	Startup   kubeProbe `yaml:"startupProbe"`
	Liveness  kubeProbe `yaml:"livenessProbe"`
	Readiness kubeProbe `yaml:"readinessProbe"`
	Resources struct{ Requests, Limits map[string]string }
	Security  struct {
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Drop []string }
	} `yaml:"securityContext"`
}

type kubePort struct {
	Name          string
	ContainerPort string `yaml:"containerPort"`
}

type kubeProbe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

type kustomization struct {
	Namespace string
	Resources []string
	Images    []struct {
		Name    string
		NewName string `yaml:"newName"`
		NewTag  string `yaml:"newTag"`
	}
	ConfigMaps []struct {
		Name     string
		Literals []string
	} `yaml:"configMapGenerator"`
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	var k kustomization
	decodeYAML(t, "kubernetes/kustomization.yaml", &k)
	settings := map[string]map[string]string{}
	for _, c := range k.ConfigMaps {
		settings[c.Name] = map[string]string{}
		for _, l := range c.Literals {
			name, value, _ := strings.Cut(l, "=")
			settings[c.Name][name] = value
		}
	}
	images := map[string]string{}
	for _, i := range k.Images {
		images[i.Name] = i.NewName + ":" + i.NewTag
	}

	var objects []kubeObject
	files := map[string]bool{"kustomization.yaml": true}
	for _, name := range k.Resources {
		files[name] = true
		d := yaml.NewDecoder(strings.NewReader(deployFile(t, "kubernetes/"+name)))
		for {
			var o kubeObject
			if err := d.Decode(&o); err != nil {
				if err.Error() != "EOF" {
					t.Fatalf("%s: %v", name, err)
				}
				break
			}
			if o.APIVersion == "" || o.Kind == "" || o.Metadata.Name == "" {
				t.Errorf("%s: apiVersion %q, kind %q, name %q", name, o.APIVersion, o.Kind, o.Metadata.Name)
			}
			if o.Kind == "Secret" {
				t.Errorf("%s: a secret has no place here", name)
			}
			objects = append(objects, o)
		}
	}
	list, err := os.ReadDir(filepath.Join(deployDir, "kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !files[e.Name()] {
			t.Errorf("%s is not in kustomization.yaml", e.Name())
		}
	}
	if !slices.ContainsFunc(objects, func(o kubeObject) bool { return o.Kind == "Namespace" && o.Metadata.Name == k.Namespace }) {
		t.Errorf("no namespace %q", k.Namespace)
	}

	// The pods, by what they run.
	server := serveStore(t, t.TempDir()+"/roster.db")
	pods := map[string]kubePod{}
	for _, o := range objects {
		p := o.Spec.Template
		if len(p.Spec.Containers) == 0 {
			continue
		}
		c := p.Spec.Containers[0]
		env := map[string]string{}
		for _, from := range c.EnvFrom {
			if settings[from.ConfigMapRef.Name] == nil {
				t.Errorf("%s: no ConfigMap %q", o.Kind, from.ConfigMapRef.Name)
			}
			maps.Copy(env, settings[from.ConfigMapRef.Name])
		}
		for _, e := range c.Env {
			env[e.Name] = e.Value
			if ref := e.ValueFrom.SecretKeyRef; ref.Name != "" {
				env[e.Name] = "mongodb://roster:secret@db.example.com/roster"
				if s := ref.Name + " --from-file=" + ref.Key; !strings.Contains(deployFile(t, "kubernetes/kustomization.yaml"), s) {
					t.Errorf("%s: kustomization.yaml does not tell how to make the secret %s with its key %s", o.Kind, ref.Name, ref.Key)
				}
			}
		}
		d := command(t, c.Args, env)
		pods[d.command] = p
		if image := images[c.Image]; !pinned(image) {
			t.Errorf("%s: the image %q is not named by its version", o.Kind, image)
		}
		if !p.Spec.Security.NonRoot || c.Security.Escalation == nil || *c.Security.Escalation || !c.Security.ReadOnly || !slices.Equal(c.Security.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s has rights it does not need: %+v, %+v", o.Kind, p.Spec.Security, c.Security)
		}
		if c.Resources.Limits["memory"] == "" || c.Resources.Requests["cpu"] == "" {
			t.Errorf("%s: resources are missing: %+v", o.Kind, c.Resources)
		}
		if d.command != "serve" {
			continue
		}
		if p.Spec.Links == nil || *p.Spec.Links {
			t.Error("the server is started with variables for the service roster, and warns of them as settings that do not exist")
		}

		ports := map[string]string{}
		for _, port := range c.Ports {
			ports[port.Name] = port.ContainerPort
		}
		ops := portOf(t, d.config.OpsListen)
		if ports["http"] != portOf(t, d.config.Listen) || ports["ops"] != ops {
			t.Errorf("the container has the ports %v; Roster listens on %s and %s", ports, d.config.Listen, d.config.OpsListen)
		}
		for path, probe := range map[string]kubeProbe{"/healthz": c.Liveness, "/readyz": c.Readiness} {
			if probe.HTTPGet.Path != path || probe.HTTPGet.Port != "ops" {
				t.Errorf("the probe for %s asks %+v", path, probe.HTTPGet)
			}
			answers(t, server, path)
		}
		if c.Startup != c.Liveness {
			t.Errorf("the startup probe asks %+v", c.Startup.HTTPGet)
		}
		note := p.Metadata.Annotations
		if note["prometheus.io/scrape"] != "true" || note["prometheus.io/port"] != ops {
			t.Errorf("Prometheus is told %v; metrics are on port %s", note, ops)
		}
		answers(t, server, note["prometheus.io/path"])
		if time.Duration(p.Spec.Grace)*time.Second < d.config.ShutdownDelay+drain {
			t.Errorf("a pod is killed after %d s, before it has stopped", p.Spec.Grace)
		}
		if o.Spec.Replicas < 2 {
			t.Errorf("%d replicas", o.Spec.Replicas)
		}
	}
	pod, ok := pods["serve"]
	if !ok || len(pods) != 2 {
		t.Fatalf("want pods that serve and migrate, have %v", slices.Sorted(maps.Keys(pods)))
	}

	// What selects pods selects those that serve.
	selects := func(what string, labels map[string]string) {
		for name, value := range labels {
			if pod.Metadata.Labels[name] != value {
				t.Errorf("%s selects %s=%s; the pods have %v", what, name, value, pod.Metadata.Labels)
			}
		}
		if len(labels) == 0 {
			t.Errorf("%s selects everything", what)
		}
	}
	hasPort := func(what, name string) {
		if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(p kubePort) bool { return p.Name == name }) {
			t.Errorf("%s: no port %q", what, name)
		}
	}
	for _, s := range pod.Spec.Spread {
		selects("topologySpreadConstraints", s.LabelSelector.MatchLabels)
	}
	kinds := map[string]bool{}
	for _, o := range objects {
		kinds[o.Kind] = true
		switch o.Kind {
		case "Service":
			var labels map[string]string
			if err := o.Spec.Selector.Decode(&labels); err != nil {
				t.Error(err)
			}
			selects(o.Kind, labels)
			if labels["app.kubernetes.io/component"] != "server" {
				t.Error("the service selects the pod of the job too")
			}
			for _, p := range o.Spec.Ports {
				hasPort(o.Kind, p.TargetPort)
			}
		case "Deployment", "PodDisruptionBudget":
			var s kubeSelector
			if err := o.Spec.Selector.Decode(&s); err != nil {
				t.Error(err)
			}
			selects(o.Kind, s.MatchLabels)
		case "NetworkPolicy":
			selects(o.Kind, o.Spec.PodSelector.MatchLabels)
			for _, rule := range o.Spec.Ingress {
				for _, p := range rule.Ports {
					hasPort(o.Kind, p.Port)
				}
			}
		}
	}
	for _, kind := range []string{"Namespace", "Deployment", "Service", "Job", "PodDisruptionBudget", "NetworkPolicy"} {
		if !kinds[kind] {
			t.Errorf("no %s", kind)
		}
	}
}

// TestUnit holds the systemd unit against the program.
func TestUnit(t *testing.T) {
	t.Parallel()
	unit := map[string][]string{}
	env := map[string]string{}
	for line := range strings.Lines(deployFile(t, "roster.service")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(name, "#") {
			unit[name] = append(unit[name], value)
		}
		if name == "Environment" {
			variable, v, _ := strings.Cut(value, "=")
			env[variable] = v
		}
	}
	if env["ROSTER_CONFIG"] != "/etc/roster/roster.yaml" {
		t.Errorf("the settings are in %s, where the packages put none", env["ROSTER_CONFIG"])
	}
	env["ROSTER_CONFIG"] = configExample
	args := strings.Fields(unit["ExecStart"][0])
	d := command(t, args[1:], env)
	if grace, err := time.ParseDuration(unit["TimeoutStopSec"][0] + "s"); err != nil || grace < d.config.ShutdownDelay+drain {
		t.Errorf("it is killed after %s s, before it has stopped", unit["TimeoutStopSec"])
	}
	if dir := "/var/lib/" + unit["StateDirectory"][0] + "/"; !strings.HasPrefix(d.config.Store.Reveal(), dir) {
		t.Errorf("the store %s is not in %s, the only place it can write to", d.config.Store, dir)
	}

	// systemd's own opinion, of the unit with a program that is there.
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("systemd-analyze is not installed: systemd has not been asked")
		return
	}
	file := filepath.Join(t.TempDir(), "roster.service")
	text := strings.Replace(deployFile(t, "roster.service"), "ExecStart=roster", "ExecStart=/bin/sh", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", file).CombinedOutput(); err != nil {
		t.Errorf("the service is more exposed than 2.0: %v\n%s", err, out)
	}
}

func TestContainerfile(t *testing.T) {
	t.Parallel()
	text := deployFile(t, "Containerfile")
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))[1]
	for _, m := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1) {
		if m[1] != "scratch" && !pinned(m[1]) {
			t.Errorf("the image %s is not named by its version", m[1])
		}
		if strings.Contains(m[1], "/golang:") && !strings.Contains(m[1], ":"+language+".") {
			t.Errorf("%s builds a module for Go %s", m[1], language)
		}
	}
	for _, want := range []string{
		`CGO_ENABLED=0 go build`, `-o /roster `, `(?m)^COPY --from=build /roster /roster$`, `(?m)^ENTRYPOINT \["/roster"\]$`, `(?m)^USER [1-9]\d*:[1-9]\d*$`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the Containerfile has no %s", want)
		}
	}
}

type prometheusFile struct {
	Rules  []string `yaml:"rule_files"`
	Scrape []struct {
		Job    string                       `yaml:"job_name"`
		Static []struct{ Targets []string } `yaml:"static_configs"`
	} `yaml:"scrape_configs"`
}

func prometheusConfig(t *testing.T) (p prometheusFile) {
	t.Helper()
	decodeYAML(t, "prometheus.yml", &p)
	return p
}

type grafanaDashboard struct {
	UID, Title string
	Templating struct{ List []grafanaVariable }
	Panels     []grafanaPanel
}

type grafanaVariable struct {
	Name, Type string
	Current    struct{ Value any }
}

type grafanaPanel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ UID string }
	Targets                  []struct{ Expr, LegendFormat string }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	GridPos                  struct{ X, Y, W, H int }
}

// variable returns the one of that name, or none.
func (d grafanaDashboard) variable(name string) grafanaVariable {
	for _, v := range d.Templating.List {
		if v.Name == name {
			return v
		}
	}
	return grafanaVariable{}
}

func dashboard(t *testing.T) (d grafanaDashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(deployFile(t, "grafana/roster.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestMetricsThatAreWatched: dashboard and alerts ask for what a server exposes.
func TestMetricsThatAreWatched(t *testing.T) {
	t.Parallel()
	w := watcher{series: exposed(t), jobs: map[string]bool{}}
	for _, s := range prometheusConfig(t).Scrape {
		w.jobs[s.Job] = true
	}
	w.series["up"] = map[string]bool{}

	d := dashboard(t)
	if d.UID == "" || d.Title == "" || len(d.Panels) == 0 {
		t.Errorf("the dashboard has no name, or shows nothing")
	}
	ids, shown := map[int]bool{}, ""
	for i, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("%s: its id is not its own, or it has no title", p.Title)
		}
		ids[p.ID] = true
		at := p.GridPos
		if at.X < 0 || at.W < 1 || at.H < 1 || at.X+at.W > 24 {
			t.Errorf("%s is at %+v", p.Title, at)
		}
		for _, q := range d.Panels[:i] {
			if o := q.GridPos; at.X < o.X+o.W && o.X < at.X+at.W && at.Y < o.Y+o.H && o.Y < at.Y+at.H {
				t.Errorf("%s lies on %s", p.Title, q.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: it shows nothing, or does not say what, in which unit and from where", p.Title)
		}
		for _, target := range p.Targets {
			w.check(t, p.Title, target.Expr, target.LegendFormat)
			if target.LegendFormat == "" || !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: it has no legend, or is not that of the chosen processes: %s", p.Title, target.Expr)
			}
			shown += target.Expr + "\n"
		}
	}
	if v := d.variable("instance"); v.Type != "query" {
		t.Errorf("the processes are chosen by %+v", v)
	}
	for name := range w.series {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "roster_") && !strings.Contains(shown, base) {
			t.Errorf("the dashboard does not show %s", base)
		}
	}

	var alerts struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	decodeYAML(t, "alerts.yml", &alerts)
	names, exprs := map[string]bool{}, map[string]string{}
	sections := map[string]bool{}
	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Roster\w+)$`).FindAllStringSubmatch(string(operations), -1) {
		sections[m[1]] = true
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if names[r.Alert] || r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("the alert %q lacks a name of its own, a severity or a summary", r.Alert)
			}
			names[r.Alert], exprs[r.Alert] = true, r.Expr
			w.check(t, r.Alert, r.Expr, r.Annotations["summary"])
			if want := "/docs/operations.md#" + strings.ToLower(r.Alert); r.Annotations["description"] == "" || !sections[r.Alert] || !strings.HasSuffix(r.Annotations["runbook_url"], want) {
				t.Errorf("the alert %s does not say what to do, or docs/operations.md does not", r.Alert)
			}
			delete(sections, r.Alert)
		}
	}
	if len(sections) > 0 {
		t.Errorf("docs/operations.md tells of alerts that are not there: %v", sections)
	}
	if len(names) == 0 {
		t.Error("there are no alerts")
	}
	// What somebody has to be told of, and when: at the first time, for which the
	// counter has to be there before.
	for name, want := range map[string]string{
		"RosterEmergencySignIn": `sum(increase(roster_emergency_signin_total{job="roster"}[15m])) > 0`,
		"RosterLockouts":        `sum(increase(roster_lockouts_total{job="roster"}[15m])) > 5`,
		"RosterPasscodesEnded":  `sum(increase(roster_lockouts_total{job="roster",outcome="disabled"}[15m])) > 0`,
	} {
		if exprs[name] != want {
			t.Errorf("the alert %s is %q, want %q", name, exprs[name], want)
		}
	}
}

// exposed returns the names of a server's series, with the labels of each.
func exposed(t *testing.T) map[string]map[string]bool {
	t.Helper()
	store := t.TempDir() + "/roster.db"
	s := serveStore(t, store)
	// What has labels is there once it has happened.
	token := rosterToken(t, "client", "create", "--store", store, "--name", "watched", "--scopes", "users")
	body := `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ana"}`
	if err := s.expect(http.StatusCreated, "POST", "/Users", token, body); err != nil {
		t.Fatal(err)
	}
	if err := s.expect(http.StatusUnauthorized, "GET", "/Users", "nobody's", ""); err != nil {
		t.Fatal(err)
	}
	_, text, err := s.do("GET", s.ops+"/metrics", "", "")
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)(?:\{(.*)\})? \S+$`).FindAllStringSubmatch(text, -1) {
		if series[m[1]] == nil {
			series[m[1]] = map[string]bool{}
		}
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			series[m[1]][l[1]] = true
		}
	}
	return series
}

type watcher struct {
	series map[string]map[string]bool
	jobs   map[string]bool
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	brackets   = regexp.MustCompile(`\[(\d+[smhd]|\$__rate_interval)\]`)
	jobMatcher = regexp.MustCompile(`\bjob="([^"]*)"`)
	word       = regexp.MustCompile(`([a-zA-Z_]\w*)\s*(\(|=~|!~|!=|=)?`)
	template   = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)

	// The words of PromQL that are in use.
	promFunctions = []string{"rate", "increase", "histogram_quantile", "absent", "time"}
	promWords     = []string{"sum", "max", "by", "or", "and", "unless"}
)

// check reads an expression word by word: each is a function, a metric, or a
// label that one of the metrics has. text is shown with its result.
func (w watcher) check(t *testing.T, what, expr, text string) {
	t.Helper()
	labels := map[string]bool{"job": true, "instance": true} // Prometheus adds them
	var others []string
	metrics := 0
	bare := brackets.ReplaceAllString(quoted.ReplaceAllString(expr, `""`), "")
	for _, m := range word.FindAllStringSubmatch(bare, -1) {
		switch name, next := m[1], m[2]; {
		case slices.Contains(promWords, name):
		case next == "(":
			if !slices.Contains(promFunctions, name) {
				t.Errorf("%s: no function %s in %s", what, name, expr)
			}
		case w.series[name] != nil && next == "":
			metrics++
			maps.Copy(labels, w.series[name])
		default:
			others = append(others, name)
		}
	}
	for _, name := range others {
		if !labels[name] {
			t.Errorf("%s: the server exposes no %s: %s", what, name, expr)
		}
	}
	for _, m := range template.FindAllStringSubmatch(text, -1) {
		if !labels[m[1]] {
			t.Errorf("%s: %q shows a label that is not in %s", what, text, expr)
		}
	}
	for _, m := range jobMatcher.FindAllStringSubmatch(expr, -1) {
		if !w.jobs[m[1]] {
			t.Errorf("%s: Prometheus has no job %s", what, m[1])
		}
	}
	if metrics == 0 || len(jobMatcher.FindAllString(expr, -1)) != metrics {
		t.Errorf("%s: not every metric is one of a job: %s", what, expr)
	}
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(bare, pair[:1]) != strings.Count(bare, pair[1:]) {
			t.Errorf("%s: brackets do not match: %s", what, expr)
		}
	}
}
