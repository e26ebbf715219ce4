# SPDX-License-Identifier: Apache-2.0
# A breakpoint, 25 single steps that each move, a watchpoint that fires at each of three writes, one at a read.
set confirm off
set pagination off
break step
run
set $moved = 0
set $n = 0
while $n < 25
  set $before = $pc
  stepi
  if $pc != $before
    set $moved = $moved + 1
  end
  set $n = $n + 1
end
printf "stepped %d of %d\n", $moved, $n
delete 1
watch watched
continue
continue
continue
delete 2
rwatch other
continue
delete 3
continue
