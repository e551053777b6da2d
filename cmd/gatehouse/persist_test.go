package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
)

// The record that stays: the replica tells which, doctor prints it, and once a
// person has made it the name is proved without another write.
func TestPersistentRecord(t *testing.T) {
	t.Parallel()
	dns := rig.StartChalltest(t)
	pebble := rig.StartPebble(t, rig.PebbleOptions{DNSServer: dns.DNS})
	dir := t.TempDir()
	file := filepath.Join(dir, "gatehouse.toml")
	text := fmt.Sprintf(`
defaultEntryPoints = ["https"]
[lifeCycle]
graceTimeOut = "1s"
[entryPoints.https]
address = "127.0.0.1:0"
[entryPoints.https.tls]
[store]
directory = "%s/store"
[acme]
entryPoint = "https"
caServer = "%s"
caCertificates = ["%s"]
[acme.dnsChallenge]
persist = true
resolvers = ["%s"]
[[acme.domains]]
main = "*.office.example.com"
`, dir, pebble.Directory(), pebble.CAFile(), dns.DNS)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startAlone(t, file)
	within(t, 30*time.Second, "the replica tells which record is wanted", r.log, func() error {
		out, _ := verbOut(t, "certs", "-c", file)
		if !strings.Contains(out, "create the record _validation-persist.office.example.com TXT") {
			return fmt.Errorf("certs says %s", out)
		}
		return nil
	})
	out, _ := verbOut(t, "doctor", "*.office.example.com", "-c", file)
	found := regexp.MustCompile(`_validation-persist\.office\.example\.com\. TXT "([^"]*; accounturi=https://[^"]*; policy=wildcard)"`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("doctor does not tell the record:\n%s", out)
	}
	tell(t, dns.Management+"/set-txt", map[string]string{"host": "_validation-persist.office.example.com.", "value": found[1]})
	wantVerb(t, 0, []string{"is there"}, "doctor", "*.office.example.com", "-c", file)
	wantVerb(t, 0, []string{"done: serial"}, "certs", "renew", "*.office.example.com", "-c", file)
}
