package rig

import "syscall"

// deathSignal makes a server die with the test that started it.
func deathSignal() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
