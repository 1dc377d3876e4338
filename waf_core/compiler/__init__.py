"""Tree to program: defaults, chains, markers, updates and removals resolved, then the plan."""

from waf_core.compiler.build import CompileOptions, compile_nodes

__all__ = ["CompileOptions", "compile_nodes"]
