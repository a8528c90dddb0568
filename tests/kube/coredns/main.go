// CoreDNS with the plugins that the test cluster's Corefile names, and no others: theirs bring the clients of several
// clouds, which take longer to compile than all the rest.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	dnsserver.Directives = []string{"bind", "errors", "kubernetes"} // in the order in which they see a question
	coremain.Run()
}
