package kube

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Addresses of the network that Main makes. All of 10.244.0.0/16 and
// 10.96.0.0/16 are the machine's own there: anybody may listen on any of them,
// also on ports 80 and 443. Pods have addresses of 10.245.0.0/16.
const (
	NodeIP    = "10.244.0.1"
	ServiceIP = "10.96.0.1" // of the Service "kubernetes"

	networkEnv = "GATEHOUSE_RIG_NETWORK"
)

// InNetwork says whether this process is in a network namespace that Main
// made for it.
func InNetwork() bool { return os.Getenv(networkEnv) == "1" }

// Outside says whether this process is one that Enter will run again in a
// network namespace.
func Outside() bool { return os.Getenv(networkEnv) == "" && os.Getenv(podEnv) == "" }

// Main is the body of the TestMain of a package whose tests run pods: it runs
// the tests in a network namespace of their own, in which nothing of the
// machine is touched and which is gone with them. Where that cannot be had, the
// tests run outside, and those that start a node fail with the reason.
func Main(m *testing.M) int {
	code, done := Enter()
	if done {
		return code
	}
	return m.Run()
}

// Enter does for any program what Main does for tests: when done, this process
// was the outer one, or a pod's first, and code is its exit status; else the
// caller goes on. The inner process gets files, such as listeners of the outer
// network, from descriptor 3 on.
func Enter(files ...*os.File) (code int, done bool) {
	switch {
	case os.Getenv(podEnv) != "":
		fmt.Fprintln(os.Stderr, "pod:", beginPod())
		return 127, true
	case InNetwork():
		if err := makeNetwork(); err != nil {
			fmt.Fprintln(os.Stderr, "rig: make the network:", err)
			return 1, true
		}
		return 0, false
	case os.Getenv(networkEnv) != "":
		return 0, false
	}
	code, err := again(files)
	if err != nil {
		_ = os.Setenv(networkEnv, err.Error())
		return 0, false
	}
	return code, true
}

// again runs this program with these arguments in a network namespace.
func again(files []*os.File) (int, error) {
	if _, err := exec.LookPath("ip"); err != nil {
		return 0, fmt.Errorf("pods need the program ip (package iproute2): %w", err)
	}
	runtime.LockOSThread() // the death signal is bound to it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), networkEnv+"=1"), files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("pods need network namespaces (root, on Linux): %w", err)
	}
	if err := cmd.Wait(); err != nil {
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
			return 1, nil
		}
	}
	return cmd.ProcessState.ExitCode(), nil
}

func makeNetwork() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return err
	}
	return ip("link set lo up", "addr add 10.244.0.0/16 dev lo", "addr add 10.96.0.0/16 dev lo")
}

// ip runs commands of the program ip.
func ip(commands ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, out)
	}
	return nil
}
