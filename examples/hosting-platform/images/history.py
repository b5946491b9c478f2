"""Prints two hours of one metric, twice, as OpenMetrics text."""

print("# TYPE hosting_visitors gauge")
for start in (1707782400, 1707955200):  # 13 and 15 February 2024
    for second in range(0, 7200, 15):
        print(f'hosting_visitors{{site="www"}} {second % 600} {start + second}')
print("# EOF")
