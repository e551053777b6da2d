package examples

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// keys that the units use, by section (systemd.unit(5), .service, .socket and
// .exec): systemd only warns of a key it does not know, and goes on without.
var keys = map[string][]string{
	"[Unit]":    {"After", "Description", "Documentation", "Wants"},
	"[Install]": {"WantedBy"},
	"[Socket]":  {"Backlog", "FileDescriptorName", "ListenStream", "NoDelay", "Service"},
	"[Service]": {
		"AmbientCapabilities", "CapabilityBoundingSet", "ExecReload", "ExecStart", "Group", "KillMode", "LimitNOFILE", "MemoryMax",
		"NoNewPrivileges", "NotifyAccess", "PrivateDevices", "PrivateTmp", "ProtectHome", "ProtectSystem", "Restart", "RestartSec",
		"RestrictAddressFamilies", "StateDirectory", "TimeoutStopSec", "Type", "User",
	},
}

// TestUnits: the units have the form systemd reads, and only keys it knows.
func TestUnits(t *testing.T) {
	units, err := filepath.Glob("systemd/*")
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		section, said := "", map[string]string{}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			key, value, assigns := strings.Cut(line, "=")
			switch {
			case line == "", line[0] == '#':
			case keys[line] != nil:
				section = line
			case !assigns || value == "" || !slices.Contains(keys[section], key):
				t.Errorf("%s: %s %s: systemd does not know it", unit, section, line)
			default:
				said[section+key] = value
			}
		}
		if said["[Install]WantedBy"] == "" {
			t.Errorf("%s cannot be enabled", unit)
		}
		if strings.HasSuffix(unit, ".service") && (said["[Service]Type"] != "notify" || said["[Service]NotifyAccess"] != "all" ||
			!strings.Contains(said["[Service]ExecReload"], "-USR2 $MAINPID")) {
			t.Errorf("%s: an upgrade would be taken for the end of the service", unit)
		}
		if strings.HasSuffix(unit, ".socket") && said["[Socket]Service"] != "gatehouse.service" {
			t.Errorf("%s starts %q", unit, said["[Socket]Service"])
		}
	}
}
