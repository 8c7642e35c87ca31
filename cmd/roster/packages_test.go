package main

import (
	"debug/buildinfo"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/roster-id/roster/internal/config"
)

// configExample is deploy/roster.yaml, where the unit looks for its settings.
const configExample = deployDir + "/roster.yaml"

// nfpmFile is what the packages are made of.
type nfpmFile struct {
	Contents []struct {
		Src, Dst, Type string
		Info           struct{ Mode int } `yaml:"file_info"`
	}
	Scripts map[string]string
}

// TestPackageContents: what the packages are to hold is there.
func TestPackageContents(t *testing.T) {
	t.Parallel()
	var p nfpmFile
	decodeYAML(t, "packages/nfpm.yaml", &p)
	modes := map[string]int{}
	for _, c := range p.Contents {
		modes[c.Dst] = c.Info.Mode
		if found, _ := filepath.Glob("../../" + c.Src); len(found) == 0 && !strings.HasPrefix(c.Src, "${STAGE}/") {
			t.Errorf("there is no %s for %s", c.Src, c.Dst)
		}
		if c.Info.Mode == 0 { // that of a file depends on who checked it out
			t.Errorf("%s has no mode of its own", c.Dst)
		}
	}
	for name, mode := range map[string]int{"/usr/bin/roster": 0o755, "/usr/lib/systemd/system/roster.service": 0o644, "/etc/roster": 0o750, "/etc/roster/roster.yaml": 0o640} {
		if modes[name] != mode {
			t.Errorf("%s has the mode %o, want %o", name, modes[name], mode)
		}
	}
	for when, name := range p.Scripts {
		if out, err := exec.Command("sh", "-n", "../../"+name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", when, err, out)
		}
	}
}

// TestPackageVersions: packages are ordered as the tags and commits are.
func TestPackageVersions(t *testing.T) {
	t.Parallel()
	versions := []struct{ described, want string }{
		{"4bdc865", "0+g4bdc865"},
		{"4bdc865-dirty", "0+g4bdc865+dirty"},
		{"v1.2.3-rc.1", "1.2.3~rc.1"},
		{"v1.2.3-rc.1-2-gabc1234", "1.2.3~rc.1+2.gabc1234"},
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-4-gabc1234", "1.2.3+4.gabc1234"},
		{"v1.2.3-4-gabc1234-dirty", "1.2.3+4.gabc1234+dirty"},
	}
	for i, v := range versions {
		out, err := exec.Command("make", "-s", "-C", "../..", "package-version", "VERSION="+v.described).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != v.want {
			t.Errorf("%s becomes %q (%v), want %q", v.described, got, err, v.want)
		}
		if dpkg, err := exec.LookPath("dpkg"); err == nil && i > 0 {
			if exec.Command(dpkg, "--compare-versions", versions[i-1].want, "lt", v.want).Run() != nil {
				t.Errorf("%s is not newer than %s", v.want, versions[i-1].want)
			}
		}
	}
}

// TestConfigExample: the file that the packages bring is valid, as it is and with all
// that is commented out in it.
func TestConfigExample(t *testing.T) {
	t.Parallel()
	text := deployFile(t, "roster.yaml")
	setting := regexp.MustCompile(`(?m)^#?([a-z-]+): .*$`)
	all := map[string]string{} // the last of each
	for _, m := range setting.FindAllStringSubmatch(text, -1) {
		all[m[1]] = strings.TrimPrefix(m[0], "#")
	}
	file := filepath.Join(t.TempDir(), "roster.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(slices.Collect(maps.Values(all)), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{configExample, file} {
		cmd, _, _ := newRootCommand().Find([]string{"serve"})
		c, err := config.Load(cmd.Flags(), func(name string) string {
			return map[string]string{"ROSTER_CONFIG": path}[name]
		})
		if err != nil || c.Store.Reveal() != "/var/lib/roster/roster.db" {
			t.Errorf("%s: %v; store %s", path, err, c.Store)
		}
		if path == file && (c.PublicURL == "" || c.TLSCert == "" || c.Mail.From == "") {
			t.Errorf("the commented settings did nothing: %+v", c)
		}
	}
}

// TestPackages holds what `make packages` made in the folder of ROSTER_TEST_PACKAGES
// against the binary in it.
func TestPackages(t *testing.T) {
	dir := os.Getenv("ROSTER_TEST_PACKAGES")
	if dir == "" {
		t.Skip("NOT RUN: a look into packages; make reproducible makes some, and names them")
	}
	debs, _ := filepath.Glob(dir + "/*.deb")
	rpms, _ := filepath.Glob(dir + "/*.rpm")
	if len(debs) == 0 || len(debs) != len(rpms) {
		t.Fatalf("there are %q and %q", debs, rpms)
	}
	for _, deb := range debs {
		t.Run(filepath.Base(deb), func(t *testing.T) { checkDeb(t, deb) })
	}
}

func checkDeb(t *testing.T, deb string) {
	root := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	at := func(name string) string { return filepath.Join(root, name) }
	binary, doc := at("usr/bin/roster"), at("usr/share/doc/roster")
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" || settings["vcs.revision"] != "" {
		t.Errorf("it was not built to be built again: %v", settings)
	}
	modules := []string{"std@" + info.GoVersion}
	for _, m := range info.Deps {
		modules = append(modules, m.Path+"@"+m.Version)
	}
	slices.Sort(modules)

	var sbom struct {
		Format     string `json:"bomFormat"`
		Serial     string `json:"serialNumber"`
		Metadata   struct{ Timestamp string }
		Components []struct {
			Name, Version string
			Evidence      struct{ Licenses []any }
		}
	}
	b, err := os.ReadFile(doc + "/sbom.cdx.json")
	if err == nil {
		err = json.Unmarshal(b, &sbom)
	}
	if err != nil || sbom.Format != "CycloneDX" || sbom.Serial != "" || sbom.Metadata.Timestamp != "" {
		t.Errorf("the SBOM is of the format %q, serial %q, of %q: %v", sbom.Format, sbom.Serial, sbom.Metadata.Timestamp, err)
	}
	listed := []string{}
	for _, c := range sbom.Components {
		listed = append(listed, c.Name+"@"+c.Version)
		if c.Name != "std" && len(c.Evidence.Licenses) == 0 {
			t.Errorf("the SBOM names no licence of %s", c.Name)
		}
	}
	slices.Sort(listed)
	if d := cmp.Diff(modules, listed); d != "" {
		t.Errorf("the SBOM is not what is linked in (-linked +listed):\n%s", d)
	}
	licences, err := os.ReadFile(doc + "/third-party.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modules {
		if name := strings.Replace(m, "std@go", "Go ", 1); !strings.Contains(string(licences), "\n== "+name+": ") {
			t.Errorf("third-party.txt has no licence of %s", name)
		}
	}

	for name, mode := range map[string]fs.FileMode{binary: 0o755, at("etc/roster/roster.yaml"): 0o640, doc + "/copyright": 0o644, doc + "/docs/guides/generic.md": 0o644} {
		if i, err := os.Stat(name); err != nil || i.Mode() != mode {
			t.Errorf("%s: %v, want %v: %v", name, i, mode, err)
		}
	}
	if settings["GOOS"]+settings["GOARCH"] == runtime.GOOS+runtime.GOARCH {
		if out, err := exec.Command(binary, "version").Output(); err != nil || strings.Contains(string(out), "(dev") {
			t.Errorf("it calls itself %q: %v", out, err)
		}
	}
}

// TestUpgradeWithoutSettings: settings that were deleted, as a conffile may be, do not make
// an upgrade fail.
func TestUpgradeWithoutSettings(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/etc/roster"); err == nil {
		t.Skip("NOT RUN: an upgrade of a package, which is installed here")
	}
	bin := t.TempDir()
	for name, does := range map[string]string{
		"getent": "exit 0", "install": "exit 0", "systemctl": "exit 1",
		"chgrp": `shift; for f; do [ "$f" = /etc/roster ] || exit 1; done`,
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+does+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/bin/sh", "../../deploy/packages/after-install")
	cmd.Env = []string{"PATH=" + bin}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
}
