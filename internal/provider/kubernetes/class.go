package kubernetes

import (
	"slices"
)

// Controller is what an IngressClass of ours names as its controller.
const Controller = "gatehouse.io/ingress-controller"

const classAnnotation = "kubernetes.io/ingress.class"

// ourClasses are the values of the old annotation that mean us, where no class
// is configured; an Ingress without any was Traefik 1.x's too.
var ourClasses = []string{"gatehouse", "traefik"}

// classes decides which Ingresses are ours.
type classes struct {
	settings Settings
	known    bool            // IngressClass objects could be read
	ours     map[string]bool // classes whose controller we are; true: a default
	foreign  bool            // somebody else's class is the default
}

func newClasses(o Objects, s Settings) classes {
	c := classes{settings: s, known: o.Unread["ingressclasses"] == nil, ours: map[string]bool{}}
	for _, class := range o.Classes {
		if class.Controller == Controller {
			c.ours[class.Name] = class.Default
		} else if class.Default {
			c.foreign = true
		}
	}
	return c
}

// serves: by the class it names; an Ingress that names none is ours if it was
// selected by label, or if it is nobody else's by default and we are not
// limited to a class.
func (c classes) serves(in *Ingress) bool {
	want := c.settings.IngressClass
	old, isOld := in.Annotations[classAnnotation]
	switch {
	case in.Spec.IngressClassName != nil:
		name := *in.Spec.IngressClassName
		if want != "" && name != want {
			return false
		}
		if !c.known { // no right to read classes: the name alone decides
			return want != "" || slices.Contains(ourClasses, name)
		}
		_, ours := c.ours[name]
		return ours
	case isOld && old != "":
		if want != "" {
			return old == want
		}
		_, ours := c.ours[old]
		return ours || slices.Contains(ourClasses, old)
	}
	return c.settings.Selected || c.isDefault(want) || want == "" && !c.foreign
}

// isDefault tells whether the class, or any of ours, is the default.
func (c classes) isDefault(want string) bool {
	for class, isDefault := range c.ours {
		if isDefault && (want == "" || want == class) {
			return true
		}
	}
	return false
}
