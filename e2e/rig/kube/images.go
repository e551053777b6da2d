package kube

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gatehouse/e2e/rig"
)

// Echo is an image whose pods answer HTTP requests on the ports of the variable
// PORTS with what they received, as JSON (see the command echo).
func Echo(t testing.TB) Image {
	t.Helper()
	return EchoAt(build(t, "./e2e/rig/kube/echo", "echo"))
}

// EchoAt is Echo of a binary that was built before.
func EchoAt(binary string) Image {
	return Image{Files: map[string]string{"/echo": binary}, Entrypoint: []string{"/echo"}, UID: 65532}
}

// Gatehouse is an image of this checkout's gatehouse.
func Gatehouse(t testing.TB) Image {
	t.Helper()
	return GatehouseAt(build(t, "./cmd/gatehouse", "gatehouse"))
}

// GatehouseAt is Gatehouse of a binary that was built before.
func GatehouseAt(binary string) Image {
	roots := "/etc/ssl/certs/ca-certificates.crt"
	image := Image{Files: map[string]string{"/gatehouse": binary}, Entrypoint: []string{"/gatehouse"}, UID: 65532}
	if _, err := os.Stat(roots); err == nil {
		image.Files[roots] = roots
	}
	return image
}

// build builds a command of this checkout without C, so that it runs alone.
func build(t testing.TB, pkg, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := Build(pkg, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Build builds a command of this checkout as a static binary.
func Build(pkg, path string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, pkg)
	cmd.Dir = rig.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	// Everybody may run it: pods have users of their own.
	for dir := filepath.Dir(path); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755)
	}
	return nil
}
