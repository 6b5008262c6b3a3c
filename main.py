from server.__main__ import main

main()
